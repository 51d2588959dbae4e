"""Running sums of a job's settled calls and answers: its state is read without counting millions of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Final, NamedTuple

from sqlalchemy import Connection, Insert, select
from sqlalchemy.dialects import postgresql, sqlite

from batcher.store.tables import tallies


class TallyKey(NamedTuple):
    """What is summed by."""

    job_id: int
    tier: str
    model: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the settled calls of a job's tier and model.

    Attributes:
        calls: how many were settled.
        cached_tokens: the part of the input that was read from a vendor's cache.
        cost_nusd: what they cost.
        answered: items that were done with one of these calls; answers taken over are left out.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0
    answered: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(own + more for own, more in zip(astuple(self), astuple(other), strict=True)))


def add_to_tallies(connection: Connection, found: Iterable[tuple[TallyKey, Tally]]) -> None:
    """Add to the sums, in the transaction that changes what is summed. It holds the ledger's lock."""
    sums: dict[TallyKey, Tally] = {}
    for key, tally in found:
        sums[key] = sums[key] + tally if key in sums else tally
    if not sums:
        return
    rows = [key._asdict() | asdict(tally) for key, tally in sorted(sums.items())]
    connection.execute(_ADD[connection.dialect.name], rows)


def tallies_of(connection: Connection, job_id: int) -> dict[tuple[str, str], Tally]:
    """A job's sums by tier and model."""
    rows = connection.execute(select(tallies).where(tallies.c.job_id == job_id))
    return {(row.tier, row.model): Tally(*(getattr(row, name) for name in _SUMS)) for row in rows}


_SUMS: Final = tuple(field.name for field in fields(Tally))


def _adding(insertion: postgresql.Insert | sqlite.Insert) -> Insert:
    added = {name: tallies.c[name] + insertion.excluded[name] for name in _SUMS}
    return insertion.on_conflict_do_update(index_elements=list(tallies.primary_key), set_=added)


_ADD: Final = {
    "postgresql": _adding(postgresql.insert(tallies)),
    "sqlite": _adding(sqlite.insert(tallies)),
}
"""Built once: building a statement costs more than running it."""
