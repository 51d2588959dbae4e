"""Answers that are drawn for checking: in the transaction that stores them, at a probability that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Connection, bindparam, select

from batcher.store.database import insert_into
from batcher.store.tables import sampled_items, tallies


@dataclass(frozen=True, slots=True)
class Draw:
    """An answer's lot: it is drawn if its number is below the probability that holds for it.

    Attributes:
        number: uniform between 0 and 1, fixed by the job's seed and the answer's key.
        share: the probability, but for the first answers.
        certain: so many first answers of a tier and model are drawn with probability 1; 0 where the caller
            knows that there were more before.
    """

    number: float
    share: float
    certain: int


class Answered(Protocol):
    """What a drawing needs to know of an answer that is being stored."""

    @property
    def item_id(self) -> int:
        """The item."""

    @property
    def job_id(self) -> int:
        """Its job."""

    @property
    def tier(self) -> str:
        """The tier that answered."""

    @property
    def model(self) -> str | None:
        """The model that answered."""

    @property
    def draw(self) -> Draw | None:
        """Its lot; None: it cannot be drawn."""


def draw_items(connection: Connection, answered: Sequence[Answered], now: float) -> None:
    """Keep those of these answers that their lots draw. Call it before they are added to the tallies.

    Args:
        connection: the transaction that stores the answers; it holds the ledger's lock.
        answered: answers in the order in which they came; one that no lot can draw costs nothing here.
        now: Unix seconds.
    """
    lots = [(one, one.draw) for one in answered if one.draw is not None and one.model is not None]
    if not lots:
        return
    ranks = _answered_before(connection, [one for one, draw in lots if draw.certain])
    rows: list[dict[str, Any]] = []
    for one, draw in lots:
        probability = draw.share
        if draw.certain:
            stratum = (one.job_id, one.tier, one.model or "")
            ranks[stratum] = ranks.get(stratum, 0) + 1
            probability = 1.0 if ranks[stratum] <= draw.certain else draw.share
        if draw.number < probability:
            rows.append(_row(one, probability, now))
    if rows:
        connection.execute(insert_into(connection, sampled_items).on_conflict_do_nothing(), rows)


def _answered_before(connection: Connection, answered: Sequence[Answered]) -> dict[tuple[int, str, str], int]:
    """How many answers the strata of these had before this transaction."""
    if not answered:
        return {}
    rows = connection.execute(_ANSWERED, {"b_jobs": sorted({one.job_id for one in answered})})
    return {(row.job_id, row.tier, row.model): int(row.answered) for row in rows}


def _row(one: Answered, probability: float, now: float) -> dict[str, Any]:
    return {
        "item_id": one.item_id,
        "job_id": one.job_id,
        "tier": one.tier,
        "model": one.model,
        "probability": probability,
        "drawn_at": now,
    }


_ANSWERED: Final = select(tallies.c.job_id, tallies.c.tier, tallies.c.model, tallies.c.answered).where(
    tallies.c.job_id.in_(bindparam("b_jobs", expanding=True))
)
