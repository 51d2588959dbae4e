"""Rules that look at the caps in force: 50, 80 and 100 % spent, and spend above a cap.

Spent money counts, not what is reserved for calls in flight: of that most comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from batcher.alerts.book import Alert, Rule
from batcher.money import format_usd
from batcher.store.tables import caps, ledger_accounts

DAY_SCOPE: Final = "day"
_STEPS: Final = ((50, Rule.CAP_50), (80, Rule.CAP_80), (100, Rule.CAP_100))


def cap_alerts(
    connection: Connection, days: Sequence[str], job_ids: Sequence[int]
) -> list[tuple[Alert, str | None]]:
    """Alerts on the caps of these days and on the jobs' own, each with its day; None for a job's own cap.

    Two reads by primary key: what was called, and how often, does not matter.
    """
    capped = connection.execute(select(caps.c.scope)).scalars()
    scopes = {DAY_SCOPE, *capped, *(f"job:{job_id}" for job_id in job_ids)}
    account = ledger_accounts.c
    rows = connection.execute(
        select(ledger_accounts)
        .where(account.scope.in_(scopes), account.period.in_([*days, ""]), account.cap_nusd.is_not(None))
        .order_by(account.period, account.scope)
    )
    return [(alert, row.period or None) for row in rows for alert in _of_account(row)]


def cap_name(scope: str) -> str:
    """``daily cap``, or ``cap of tier economy``."""
    return "daily cap" if scope == DAY_SCOPE else f"cap of {scope.replace(':', ' ', 1)}"


def holds_reserved(connection: Connection, scope: str) -> bool:
    """Whether money is reserved in the latest account of a scope."""
    account = ledger_accounts.c
    query = select(account.reserved_nusd).where(account.scope == scope).order_by(account.period.desc())
    return bool(connection.execute(query.limit(1)).scalar_one_or_none())


def _of_account(row: Row[Any]) -> Iterator[Alert]:
    cap, spent = row.cap_nusd, row.spent_nusd
    amounts = f"{format_usd(spent)} of {format_usd(cap)}"
    name = cap_name(row.scope)
    when = f" on {row.period}" if row.period else ""
    for percent, rule in _STEPS:
        if spent > 0 and spent * 100 >= cap * percent:
            reached = "is spent" if percent == 100 else f"is {percent} % spent"
            yield Alert(
                rule,
                row.scope,
                f"The {name} {reached}: {amounts}",
                f"{amounts} spent{when}; {format_usd(row.reserved_nusd)} is reserved for calls in flight.",
            )
    if spent > cap:
        yield Alert(
            Rule.OVER_CAP,
            row.scope,
            f"More is spent than the {name} allows: {amounts}",
            f"{amounts} spent{when}. The cap was lowered below what had been spent, or a vendor charged more "
            "than was reserved. Nothing more is sent under it. See: batcher budget show, batcher spend",
        )
