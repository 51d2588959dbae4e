"""Whether a cost fits what is left of the caps, and if not, how many days it takes at them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from batcher.budget.ledger import DAY_SCOPE, DEFAULT_DAILY_CAP_NUSD, Account, Balance, Ledger
from batcher.store.database import Store
from batcher.store.tables import ledger_clock

_OF_JOB: Final = "job:"
_NEW_JOB: Final = "job:new"
"""Where the cap stands of a job that is not submitted yet."""


@dataclass(frozen=True, slots=True)
class Books:
    """The caps in force and how full they are, read without writing.

    Attributes:
        now: Unix seconds, the database's clock.
        day: the ledger's day, YYYY-MM-DD.
        balances: of every cap that may concern the plan, the daily one first.
    """

    now: float
    day: str
    balances: tuple[Balance, ...]

    def covering(self, tier: str, providers: Iterable[str], task: str) -> list[Balance]:
        """The caps that calls of a task on a tier stand under, at these providers."""
        scopes = {DAY_SCOPE, f"tier:{tier}", f"task:{task}", *(f"provider:{name}" for name in providers)}
        return [
            balance
            for balance in self.balances
            if balance.account.scope in scopes or balance.account.scope.startswith(_OF_JOB)
        ]

    def check(self, task: str, charges: Sequence[Charge]) -> list[CapCheck]:
        """Hold what a task costs here and there against the caps that each part of it stands under."""
        covered = [
            [cap for tier in charge.tiers for cap in self.covering(tier, charge.providers, task)]
            for charge in charges
        ]
        checks = []
        for balance in self.balances:
            parts = [charge for charge, caps in zip(charges, covered, strict=True) if balance in caps]
            if parts:
                checks += check_caps([balance], *_sum(parts))
        return checks


@dataclass(frozen=True, slots=True)
class Charge:
    """What calls cost on these tiers, at these providers.

    Attributes:
        least_nusd: what is reserved for the smallest document; None if it does not matter here.
    """

    tiers: frozenset[str]
    providers: frozenset[str]
    likely_nusd: int
    worst_nusd: int
    least_nusd: int | None = None


def _sum(parts: Sequence[Charge | CapCheck]) -> tuple[int, int, int | None]:
    """Likely and worst cost of all, and what the smallest document of any needs."""
    least = [
        needed
        for part in parts
        if (needed := part.smallest_nusd if isinstance(part, CapCheck) else part.least_nusd) is not None
    ]
    return (
        sum(part.likely_nusd for part in parts),
        sum(part.worst_nusd for part in parts),
        min(least, default=None),
    )


def read_books(
    store: Store,
    connection: Connection,
    ledger: Ledger,
    time_zone: str,
    job_id: int | None,
    max_cost: int | None,
) -> Books:
    """The caps of today, and of a job.

    Args:
        store: the store, for its clock.
        connection: any transaction.
        ledger: its books.
        time_zone: the ledger's.
        job_id: the unfinished job that would be taken up, or None for a new one.
        max_cost: the cap that the request names for the job, nano-dollars; None if it names none.
    """
    now = store.now(connection)
    last = connection.execute(select(ledger_clock.c.last_day)).scalar_one_or_none()
    day = max(_date(now, time_zone), last or "")
    own = f"{_OF_JOB}{job_id}"
    found = [
        balance
        for balance in ledger.capped(connection, day)
        if not balance.account.scope.startswith(_OF_JOB) or balance.account.scope == own
    ]
    if max_cost is None:
        return Books(now, day, tuple(found))
    kept = [balance for balance in found if balance.account.scope != own]
    spent = next(iter(ledger.balances(connection, [Account(own, "")])), None)
    account = spent.account if spent else Account(_NEW_JOB, "")
    taken = (spent.reserved_nusd, spent.spent_nusd) if spent else (0, 0)
    return Books(now, day, (*kept, Balance(account, max_cost, *taken)))


def first_books(now: float, time_zone: str, max_cost: int | None) -> Books:
    """The books that a new store begins with.

    Args:
        now: Unix seconds.
        time_zone: the ledger's.
        max_cost: the cap that the request names for the job, nano-dollars, or None.
    """
    day = _date(now, time_zone)
    balances = [Balance(Account(DAY_SCOPE, day), DEFAULT_DAILY_CAP_NUSD, 0, 0)]
    if max_cost is not None:
        balances.append(Balance(Account(_NEW_JOB, ""), max_cost, 0, 0))
    return Books(now, day, tuple(balances))


def _date(now: float, time_zone: str) -> str:
    return datetime.fromtimestamp(now, ZoneInfo(time_zone)).date().isoformat()


@dataclass(frozen=True, slots=True)
class CapCheck:
    """A cost against one cap.

    Attributes:
        balance: the cap and how full it is.
        fits_likely: whether the likely cost fits what is left.
        fits_worst: whether the worst does.
        days: calendar days on which the likely cost would be spent, today the first; None if never, because
            the cap admits no call or is the job's own.
        least_nusd: what is reserved for the smallest document, if not even that ever fits; else None.
        likely_nusd: the likely cost that was held against it.
        worst_nusd: the worst.
        smallest_nusd: what is reserved for the smallest document; None if there is none.
    """

    balance: Balance
    fits_likely: bool
    fits_worst: bool
    days: int | None
    least_nusd: int | None = None
    likely_nusd: int = 0
    worst_nusd: int = 0
    smallest_nusd: int | None = None

    @property
    def name(self) -> str:
        """Which cap, for people."""
        scope = self.balance.account.scope
        return "the job's own cap" if scope.startswith(_OF_JOB) else self.balance.account.name


def check_caps(
    balances: Sequence[Balance], likely_nusd: int, worst_nusd: int, least_nusd: int | None = None
) -> list[CapCheck]:
    """Hold a cost against caps.

    Args:
        balances: the caps, and how full they are.
        likely_nusd: of all documents.
        worst_nusd: of all documents.
        least_nusd: what is reserved for the smallest; None if there is none.
    """
    checks = []
    for balance in balances:
        room = balance.room_nusd
        if room is None:
            continue
        never = least_nusd is not None and least_nusd > _most_nusd(balance, room)
        checks.append(
            CapCheck(
                balance,
                fits_likely=likely_nusd <= room and not never,
                fits_worst=worst_nusd <= room and not never,
                days=None if never else _days(balance, room, likely_nusd),
                least_nusd=least_nusd if never else None,
                likely_nusd=likely_nusd,
                worst_nusd=worst_nusd,
                smallest_nusd=least_nusd,
            )
        )
    return checks


def check_together(checks: Sequence[CapCheck]) -> list[CapCheck]:
    """Hold what several parts cost together against the one cap that all of them stand under."""
    return check_caps([checks[0].balance], *_sum(checks))


def _most_nusd(balance: Balance, room_nusd: int) -> int:
    """The most that will ever be free: tomorrow a day's whole cap, under a job's own what is left of it."""
    return room_nusd if balance.account.scope.startswith(_OF_JOB) else balance.cap_nusd or 0


def _days(balance: Balance, room_nusd: int, likely_nusd: int) -> int | None:
    if likely_nusd <= room_nusd:
        return 1
    if not balance.cap_nusd or balance.account.scope.startswith(_OF_JOB):
        return None
    return 1 + math.ceil((likely_nusd - room_nusd) / balance.cap_nusd)


def days_needed(checks: Iterable[CapCheck]) -> int | None:
    """Days that the tightest of these caps makes it take; None if one of them is never enough."""
    needed = 1
    for check in checks:
        if check.days is None:
            return None
        needed = max(needed, check.days)
    return needed
