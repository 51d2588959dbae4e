"""Reconciling with a vendor's bill: what differs, and which unknown calls are proven not to have been billed.

A call of unknown outcome stays booked at its worst case until an export of the vendor's proves what became of
it. What counts as proof:

- An export with a line for each call names every answered one, and no other but those named here.
- An export of sums counts, for a model, exactly the answered calls and their tokens, on days that are over
  (or whose export the user says is final), with nothing on its way. A vendor may book a call that is sent
  shortly before midnight on either day: such days are held against the export together.
- Costs alone show a difference and prove nothing: a cheap call can hide in their rounding.
- Lines of another provider's models prove nothing, nor that the export is complete for their days.

Nothing else releases money, and what is released never leaves the ledger below the export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, func, select

from batcher.budget.comparison import (
    ALL_MODELS,
    DAY_S,
    Billed,
    Bills,
    Books,
    Calls,
    Verdict,
    day_of,
    judge,
    keep_bills,
    keep_books,
    names_models,
    number_of,
    read_calls,
)
from batcher.budget.export_owner import Callers, called_elsewhere, read_callers
from batcher.budget.ledger import Funding, Ledger, Movement, Movements
from batcher.budget.proof import Proof, Unknown, prove
from batcher.budget.vendor_export import Export
from batcher.budget.vendor_models import VendorModels
from batcher.catalog.models import Catalog
from batcher.domain import AttemptState, FailureClass
from batcher.store.attempts import Settlement, settle_attempts
from batcher.store.tables import attempts

MIDNIGHT_S: Final = 900
"""A call sent so close to midnight may be booked by the vendor on either day: the longest timeout anyone sets
for one call is taken to be less."""

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one UTC day. ``model`` is the vendor's id, or "" where the export names no models."""

    day: str
    model: str
    calls: Calls
    billed: Billed | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """What the export says of the unknown calls of a model on days that are held against it together.

    Attributes:
        days: YYYY-MM-DD, in order.
        model: the vendor's id.
        unknown: how many calls of unknown outcome there are.
        unknown_nusd: what they are booked at.
        proofs: of those whose fate is proven.
        reason: why the others stay booked; "" if none do.
    """

    days: tuple[str, ...]
    model: str
    unknown: int
    unknown_nusd: int
    proofs: tuple[Proof, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome of holding an export against the ledger.

    Attributes:
        provider: against whose calls.
        rows: what was compared.
        findings: of the unknown calls.
        elsewhere: the export's models that batcher called at other providers only.
    """

    provider: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    elsewhere: Callers

    @property
    def proofs(self) -> list[Proof]:
        """Of all unknown calls whose fate is proven."""
        return [proof for finding in self.findings for proof in finding.proofs]

    @property
    def returned_nusd(self) -> int:
        """What settling them gives back."""
        return sum(proof.returned_nusd for proof in self.proofs)

    @property
    def higher(self) -> list[Row]:
        """Where the vendor charges more than the ledger holds."""
        return [row for row in self.rows if row.verdict is Verdict.HIGHER]


@dataclass(frozen=True, slots=True)
class UnknownCalls:
    """Calls of unknown outcome of one ledger day, provider and model, and their worst case."""

    day: str
    provider: str
    model: str
    calls: int
    worst_nusd: int


@dataclass(slots=True)
class _Side:
    """Both sides under the vendor's ids, and what may be concluded from them.

    Attributes:
        elsewhere: the models that batcher called at other providers only.
        own_days: those of the other lines, where there are such models; else all days of the export.
    """

    export: Export
    books: Books
    bills: Bills
    elsewhere: frozenset[str]
    own_days: frozenset[str]
    final: bool
    now: float
    first_day: int = field(init=False)
    last_day: int = field(init=False)

    def __post_init__(self) -> None:
        days = [number_of(day) for day in self.export.days]
        self.first_day, self.last_day = min(days), max(days)

    def covers(self, day: int) -> bool:
        return self.first_day <= day <= self.last_day

    def is_complete_for(self, day: int) -> bool:
        """Whether a missing line means nothing billed, if the user says that the export is final."""
        return min(self.own_days) <= day_of(day) <= max(self.own_days)


def list_unknown(connection: Connection) -> list[UnknownCalls]:
    """What is booked at its worst case because nobody knows what became of it."""
    key = (attempts.c.day, attempts.c.provider, attempts.c.model)
    query = (
        select(*key, func.count(), func.sum(attempts.c.cost_nusd))
        .where(attempts.c.state == AttemptState.UNKNOWN.value)
        .group_by(*key)
        .order_by(*key)
    )
    return [
        UnknownCalls(day, provider, model, int(calls), int(worst_nusd))
        for day, provider, model, calls, worst_nusd in connection.execute(query)
    ]


def compare(
    connection: Connection, catalog: Catalog, export: Export, provider: str, *, final: bool, now: float
) -> Reconciliation:
    """Hold an export against the ledger. Nothing is changed.

    Args:
        connection: any transaction; a write transaction if the proofs are to be settled in it.
        catalog: knows the vendor's ids of models.
        export: what the vendor says.
        provider: whose export it is.
        final: whether the user says that the export is complete for the days that it spans: then days that
            are not over count too, and a missing line counts as nothing.
        now: Unix seconds.

    Raises:
        UsageError: if it has lines of other providers, and this one's cannot be told from them.
    """
    calls = read_calls(connection, provider)
    models = VendorModels(catalog, provider, calls)
    by_model = names_models(export)
    callers = read_callers(connection, catalog, export)
    elsewhere = called_elsewhere(callers, export, provider)
    side = _Side(
        export,
        keep_books(calls, models, by_model=by_model),
        keep_bills(export, models, by_model=by_model),
        frozenset(models.find(name) or name for name in elsewhere),
        _own_days(export, callers, provider) if elsewhere else export.days,
        final,
        now,
    )
    names: dict[str, list[str]] = {}
    for name in calls:
        names.setdefault(models.id_of(name) if by_model else ALL_MODELS, []).append(name)
    findings = [
        _examine(connection, catalog, provider, side, key, names[key], run)
        for key in side.books
        for run in _runs(side.books[key])
        if any(side.covers(day) for day in run) and any(_at(side, key, day).unknown for day in run)
    ]
    return Reconciliation(provider, tuple(_rows(side)), tuple(findings), elsewhere)


def settle(connection: Connection, ledger: Ledger, proofs: Sequence[Proof]) -> int:
    """Book what is proven; calls that were settled meanwhile are left alone. Returns what was given back.

    The connection's transaction must have begun with ``ledger.lock``.
    """
    returned = 0
    for start in range(0, len(proofs), _BATCH):
        batch = proofs[start : start + _BATCH]
        movements = Movements()
        for settled in settle_attempts(connection, [_settlement(proof) for proof in batch]):
            money = settled.reserved
            funding = Funding(money.payer_id, money.task, money.tier, money.provider, money.day)
            movements.add(funding, Movement(0, settled.cost_nusd - money.reserved_nusd))
            returned += money.reserved_nusd - settled.cost_nusd
        ledger.move(connection, movements)
    return returned


def _settlement(proof: Proof) -> Settlement:
    call = proof.call
    charged = call.prices.charged(proof.usage.input_tokens)
    is_lost = call.outcome == FailureClass.UNKNOWN_OUTCOME.value
    return Settlement(
        attempt_id=call.attempt_id,
        state=AttemptState.SETTLED,
        cost_nusd=proof.cost_nusd,
        outcome=proof.outcome if is_lost else call.outcome,
        usage=proof.usage,
        prices=None if charged is call.prices else charged,
        status_code=call.status_code,
        error=call.error,
        request_id=call.request_id,
        latency_s=call.latency_s,
    )


def _own_days(export: Export, callers: Callers, provider: str) -> frozenset[str]:
    return frozenset(line.day for line in export.lines if provider in callers.get(line.model, ()))


def _rows(side: _Side) -> list[Row]:
    rows = []
    for model in {*side.books, *side.bills}:
        calls, bills = side.books.get(model, {}), side.bills.get(model, {})
        for day in {*calls, *bills}:
            if not side.covers(day):
                continue
            found, billed = calls.get(day, Calls()), bills.get(day)
            if model in side.books:
                verdict = judge(found, billed, side.export)
            else:
                verdict = Verdict.ELSEWHERE if model in side.elsewhere else Verdict.FOREIGN
            rows.append(Row(day_of(day), model, found, billed, verdict))
    return sorted(rows, key=lambda row: (row.day, row.model))


def _runs(by_day: dict[int, Calls]) -> list[list[int]]:
    """Days that must be held against an export together, because calls were sent close to midnight."""
    days: set[int] = set(by_day)
    joined: set[int] = set()
    for day, calls in by_day.items():
        if calls.last_at >= (day + 1) * DAY_S - MIDNIGHT_S:
            days.add(day + 1)
            joined.add(day)
        if calls.first_at < day * DAY_S + MIDNIGHT_S:
            days.add(day - 1)
            joined.add(day - 1)
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1 and day - 1 in joined:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _examine(
    connection: Connection,
    catalog: Catalog,
    provider: str,
    side: _Side,
    key: str,
    names: Sequence[str],
    run: Sequence[int],
) -> Finding:
    calls = sum((_at(side, key, day) for day in run), Calls())
    billed = sum((side.bills.get(key, {}).get(day, Billed()) for day in run), Billed())
    obstacle = _obstacle(side, key, run, calls)
    proofs: Sequence[Proof] = ()
    if not obstacle:
        between = (
            attempts.c.provider == provider,
            attempts.c.model.in_(names),
            attempts.c.sent_at >= run[0] * DAY_S,
            attempts.c.sent_at < (run[-1] + 1) * DAY_S,
        )
        unknown = _unknown(connection, catalog, between)
        answered_ids = _answered_ids(connection, between) if side.export.has("request_id") else frozenset()
        proofs, obstacle = prove(calls, billed, side.export, unknown, answered_ids)
    return Finding(tuple(map(day_of, run)), key, calls.unknown, calls.unknown_nusd, tuple(proofs), obstacle)


def _obstacle(side: _Side, key: str, run: Sequence[int], calls: Calls) -> str:
    """Why the export proves nothing for these days, before its figures are looked at."""
    if calls.open:
        return f"{calls.open} calls are on their way, or were when their worker was lost"
    for day in run:
        if not side.final and (day + 1) * DAY_S + MIDNIGHT_S > side.now:
            return f"{day_of(day)} is not over in UTC. Compare again later, or say --final"
        if day not in side.bills.get(key, {}) and (gap := _gap(side, key, day)):
            return gap
    return ""


def _gap(side: _Side, key: str, day: int) -> str:
    """Why a missing line does not mean that nothing was billed; "" if it does."""
    if not side.covers(day):
        return f"calls were sent close to midnight: export {day_of(day)} too"
    if _at(side, key, day).answered:
        return f"the export has no line for {day_of(day)}, on which calls were answered"
    if not side.is_complete_for(day):
        return f"the export has only lines of other providers for {day_of(day)}: export that day too"
    if not side.final:
        return f"the export has no line for {day_of(day)}. If that means nothing was billed, say --final"
    return ""


def _at(side: _Side, key: str, day: int) -> Calls:
    return side.books.get(key, {}).get(day, Calls())


def _unknown(connection: Connection, catalog: Catalog, conditions: Any) -> list[Unknown]:
    query = (
        select(attempts)
        .where(*conditions, attempts.c.state == AttemptState.UNKNOWN.value)
        .order_by(attempts.c.id)
    )
    return [Unknown.from_row(row, catalog.models.get(row.model)) for row in connection.execute(query)]


def _answered_ids(connection: Connection, conditions: Any) -> frozenset[str]:
    query = select(attempts.c.request_id).where(
        *conditions,
        attempts.c.state == AttemptState.SETTLED.value,
        attempts.c.input_tokens + attempts.c.output_tokens > 0,
    )
    return frozenset(request_id or "" for request_id in connection.execute(query).scalars())
