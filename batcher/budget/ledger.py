"""The ledger: reservations and settlements against caps, in integer nano-dollars.

Every function works on a connection of the caller's write transaction, so that money moves together with
the lease, attempt or result that it belongs to. The cap is kept by one conditional UPDATE per account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, and_, bindparam, false, or_, select, update

from batcher.money import format_usd, usd_to_nusd
from batcher.store.database import Store, insert_into
from batcher.store.tables import caps, ledger_accounts, ledger_clock

DAY_SCOPE: Final = "day"
DEFAULT_DAILY_CAP_NUSD: Final = usd_to_nusd("5.00")


class Account(NamedTuple):
    """One cap that a reservation stands under."""

    scope: str
    period: str


@dataclass(frozen=True, slots=True)
class Balance:
    """The state of one account, nano-dollars. ``cap_nusd`` None means no cap."""

    account: Account
    cap_nusd: int | None
    reserved_nusd: int
    spent_nusd: int

    @property
    def room_nusd(self) -> int | None:
        """What may still be reserved, or None without a cap."""
        if self.cap_nusd is None:
            return None
        return max(0, self.cap_nusd - self.reserved_nusd - self.spent_nusd)

    def would_admit(self, amount_nusd: int) -> bool:
        """Whether an amount fits if what is reserved turns out to cost nothing."""
        return self.cap_nusd is None or self.spent_nusd + amount_nusd <= self.cap_nusd

    def describe(self) -> str:
        """One line for people: which cap, and how full it is."""
        name = (
            "daily cap"
            if self.account.scope == DAY_SCOPE
            else f"cap of {self.account.scope.replace(':', ' ')}"
        )
        cap = "none" if self.cap_nusd is None else format_usd(self.cap_nusd)
        return f"{name} {cap}: {format_usd(self.spent_nusd)} spent, {format_usd(self.reserved_nusd)} reserved"


class Movement(NamedTuple):
    """What a settlement does to one account: both may be negative."""

    reserved_nusd: int
    spent_nusd: int


def job_account(job_id: int) -> Account:
    """The account that a job's own cap and spend stand on."""
    return Account(f"job:{job_id}", "")


def accounts_of(job_id: int, day: str) -> tuple[Account, ...]:
    """All accounts that a call of this job on this day stands under, in locking order."""
    return (Account(DAY_SCOPE, day), job_account(job_id))


class Movements:
    """Settlements and releases of one transaction, added up per account."""

    def __init__(self) -> None:
        self._by_account: dict[Account, Movement] = {}

    def add(self, job_id: int, day: str, movement: Movement) -> None:
        """Add what one call of a job, reserved on a day, does to all its accounts."""
        for account in accounts_of(job_id, day):
            before = self._by_account.get(account, Movement(0, 0))
            self._by_account[account] = Movement(
                before.reserved_nusd + movement.reserved_nusd, before.spent_nusd + movement.spent_nusd
            )

    def in_locking_order(self) -> list[tuple[Account, Movement]]:
        """The sums, in the order in which every transaction touches accounts."""
        return sorted(self._by_account.items())


class Ledger:
    """The books of one store.

    Args:
        store: where they are kept.
        time_zone: IANA zone whose calendar day the daily cap counts.
    """

    def __init__(self, store: Store, time_zone: str) -> None:
        self._store = store
        self._zone = ZoneInfo(time_zone)

    def today(self, connection: Connection) -> str:
        """The day (YYYY-MM-DD) that a reservation made now falls on; its account is open afterwards.

        The day is the database's clock's and never goes back: if the clock is set back over midnight, the
        ledger stays on the later day.
        """
        now = datetime.fromtimestamp(self._store.now(connection), self._zone)
        day = now.date().isoformat()
        last = connection.execute(
            select(ledger_clock.c.last_day).where(ledger_clock.c.id == 1)
        ).scalar_one_or_none()
        if last == day or (last is not None and last > day):
            return str(last)
        if last is None:
            connection.execute(
                insert_into(connection, ledger_clock).values(id=1, last_day=day).on_conflict_do_nothing()
            )
        connection.execute(
            update(ledger_clock)
            .where(ledger_clock.c.id == 1, ledger_clock.c.last_day < day)
            .values(last_day=day)
        )
        self._open(connection, Account(DAY_SCOPE, day), self.daily_cap_nusd(connection))
        return day

    def next_day_starts_at(self, day: str) -> float:
        """Unix seconds at which the day after ``day`` begins in the ledger's zone."""
        midnight = datetime.fromisoformat(day).replace(tzinfo=self._zone) + timedelta(days=1)
        return midnight.timestamp()

    def daily_cap_nusd(self, connection: Connection) -> int:
        """The cap that new days start with."""
        cap = connection.execute(
            select(caps.c.cap_nusd).where(caps.c.scope == DAY_SCOPE)
        ).scalar_one_or_none()
        return DEFAULT_DAILY_CAP_NUSD if cap is None else int(cap)

    def set_daily_cap(self, connection: Connection, cap_nusd: int) -> None:
        """Change the daily cap, from the present day on."""
        statement = insert_into(connection, caps).values(scope=DAY_SCOPE, cap_nusd=cap_nusd)
        connection.execute(
            statement.on_conflict_do_update(index_elements=[caps.c.scope], set_={"cap_nusd": cap_nusd})
        )
        day = self.today(connection)
        connection.execute(
            update(ledger_accounts)
            .where(ledger_accounts.c.scope == DAY_SCOPE, ledger_accounts.c.period >= day)
            .values(cap_nusd=cap_nusd)
        )

    def open_job(self, connection: Connection, job_id: int, max_cost_nusd: int | None) -> None:
        """Open a job's account, with its own cap if it has one."""
        self._open(connection, job_account(job_id), max_cost_nusd)

    def set_job_cap(self, connection: Connection, job_id: int, max_cost_nusd: int | None) -> None:
        """Change a job's own cap."""
        account = job_account(job_id)
        connection.execute(update(ledger_accounts).where(_is(account)).values(cap_nusd=max_cost_nusd))

    def balances(self, connection: Connection, accounts: Sequence[Account]) -> list[Balance]:
        """The state of these accounts, those that exist, in the order given."""
        rows = connection.execute(
            select(ledger_accounts).where(or_(false(), *(_is(account) for account in accounts)))
        ).all()
        found = {
            Account(row.scope, row.period): Balance(
                Account(row.scope, row.period), row.cap_nusd, row.reserved_nusd, row.spent_nusd
            )
            for row in rows
        }
        return [found[account] for account in accounts if account in found]

    def room_nusd(self, connection: Connection, accounts: Sequence[Account]) -> int | None:
        """What all these accounts together still admit, or None where none has a cap."""
        rooms = [balance.room_nusd for balance in self.balances(connection, accounts)]
        return min((room for room in rooms if room is not None), default=None)

    def reserve(
        self, connection: Connection, accounts: Sequence[Account], amount_nusd: int
    ) -> Account | None:
        """Reserve an amount under every account, or under none.

        Returns:
            None if reserved, else the account whose cap does not admit it.
        """
        if amount_nusd == 0:
            return None
        for position, account in enumerate(accounts):
            admitted = connection.execute(
                _RESERVE, {"s": account.scope, "p": account.period, "x": amount_nusd}
            )
            if admitted.rowcount != 1:
                taken = [
                    {"s": t.scope, "p": t.period, "r": -amount_nusd, "c": 0} for t in accounts[:position]
                ]
                if taken:
                    connection.execute(_MOVE, taken)
                return account
        return None

    def move(self, connection: Connection, movements: Movements) -> None:
        """Book settlements and releases; never refused, because the money is gone or given back."""
        rows = [
            {"s": account.scope, "p": account.period, "r": movement.reserved_nusd, "c": movement.spent_nusd}
            for account, movement in movements.in_locking_order()
            if movement.reserved_nusd or movement.spent_nusd
        ]
        if rows:
            connection.execute(_MOVE, rows)

    def _open(self, connection: Connection, account: Account, cap_nusd: int | None) -> None:
        statement = insert_into(connection, ledger_accounts).values(
            scope=account.scope, period=account.period, cap_nusd=cap_nusd, reserved_nusd=0, spent_nusd=0
        )
        connection.execute(statement.on_conflict_do_nothing())


def _is(account: Account) -> ColumnElement[bool]:
    return and_(ledger_accounts.c.scope == account.scope, ledger_accounts.c.period == account.period)


_RESERVE = (
    update(ledger_accounts)
    .where(
        ledger_accounts.c.scope == bindparam("s"),
        ledger_accounts.c.period == bindparam("p"),
        or_(
            ledger_accounts.c.cap_nusd.is_(None),
            ledger_accounts.c.spent_nusd + ledger_accounts.c.reserved_nusd + bindparam("x")
            <= ledger_accounts.c.cap_nusd,
        ),
    )
    .values(reserved_nusd=ledger_accounts.c.reserved_nusd + bindparam("x"))
)

_MOVE = (
    update(ledger_accounts)
    .where(ledger_accounts.c.scope == bindparam("s"), ledger_accounts.c.period == bindparam("p"))
    .values(
        reserved_nusd=ledger_accounts.c.reserved_nusd + bindparam("r"),
        spent_nusd=ledger_accounts.c.spent_nusd + bindparam("c"),
    )
)
