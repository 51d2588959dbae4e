"""The ledger: reservations and settlements against caps, in integer nano-dollars.

Every function works on a connection of the caller's write transaction, so that money moves together with
the lease, attempt or result that it belongs to. The cap is kept by one conditional UPDATE per account.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, and_, bindparam, false, or_, select, update

from batcher.money import format_usd, usd_to_nusd
from batcher.store.database import Store, insert_into
from batcher.store.jobs import UNFINISHED
from batcher.store.tables import caps, jobs, ledger_accounts, ledger_clock

DAY_SCOPE: Final = "day"
DEFAULT_DAILY_CAP_NUSD: Final = usd_to_nusd("5.00")

_JOB_PREFIX: Final = "job:"
_LOCK_KEY: Final = 7020240124
"""Of the advisory lock that every transaction takes first which moves money."""


class Account(NamedTuple):
    """One cap that a reservation stands under.

    ``scope`` is ``day``, ``job:ID``, ``provider:NAME``, ``task:NAME`` or ``tier:NAME``; ``period`` is the
    ledger's day (YYYY-MM-DD), or "" for a job, whose cap counts its whole life.
    """

    scope: str
    period: str

    @property
    def name(self) -> str:
        """What people call its cap: ``daily cap``, ``cap of tier premium``."""
        return "daily cap" if self.scope == DAY_SCOPE else f"cap of {self.scope.replace(':', ' ', 1)}"


class Funding(NamedTuple):
    """Whose money a call is: its accounts follow from it. ``day`` is the ledger's day of its reservation."""

    job_id: int
    task: str
    tier: str
    provider: str
    day: str


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

    def admits(self, amount_nusd: int) -> bool:
        """Whether an amount may be reserved now."""
        room_nusd = self.room_nusd
        return amount_nusd == 0 or room_nusd is None or amount_nusd <= room_nusd

    def would_admit(self, amount_nusd: int) -> bool:
        """Whether an amount fits if what is reserved turns out to cost nothing."""
        return self.cap_nusd is None or self.spent_nusd + amount_nusd <= self.cap_nusd

    def describe(self) -> str:
        """One line for people: which cap, and how full it is."""
        cap = "none" if self.cap_nusd is None else format_usd(self.cap_nusd)
        spent, reserved = format_usd(self.spent_nusd), format_usd(self.reserved_nusd)
        return f"{self.account.name} {cap}: {spent} spent, {reserved} reserved"


class Movement(NamedTuple):
    """What a settlement does to one account: both may be negative."""

    reserved_nusd: int
    spent_nusd: int


def job_account(job_id: int) -> Account:
    """The account that a job's own cap and spend stand on."""
    return Account(f"{_JOB_PREFIX}{job_id}", "")


def accounts_of(funding: Funding) -> tuple[Account, ...]:
    """All accounts that a call stands under, in locking order."""
    return (
        Account(DAY_SCOPE, funding.day),
        job_account(funding.job_id),
        Account(f"provider:{funding.provider}", funding.day),
        Account(f"task:{funding.task}", funding.day),
        Account(f"tier:{funding.tier}", funding.day),
    )


def least_room(balances: Iterable[Balance]) -> int | None:
    """What all these accounts together still admit, nano-dollars, or None where none has a cap."""
    rooms = (balance.room_nusd for balance in balances)
    return min((room for room in rooms if room is not None), default=None)


class Movements:
    """Settlements and releases of one transaction, added up per account."""

    def __init__(self) -> None:
        self._by_funding: dict[Funding, Movement] = {}
        self._by_account: dict[Account, Movement] = {}

    def add(self, funding: Funding, movement: Movement) -> None:
        """Add what one call does to all the accounts that it stands under."""
        before = self._by_funding.get(funding)
        self._by_funding[funding] = movement if before is None else _sum(before, movement)

    def add_to(self, account: Account, movement: Movement) -> None:
        """Add what is done to one account alone."""
        self._by_account[account] = _sum(self._by_account.get(account, _NOTHING), movement)

    def in_locking_order(self) -> list[tuple[Account, Movement]]:
        """The sums, in the order in which every transaction touches accounts."""
        sums = dict(self._by_account)
        for funding, movement in self._by_funding.items():
            for account in accounts_of(funding):
                sums[account] = _sum(sums.get(account, _NOTHING), movement)
        return sorted(sums.items())


class Ledger:
    """The books of one store.

    Args:
        store: where they are kept.
        time_zone: IANA zone whose calendar day the caps of a day count.
    """

    def __init__(self, store: Store, time_zone: str) -> None:
        self._store = store
        self._zone = ZoneInfo(time_zone)

    def lock(self, connection: Connection, *, brief: bool = False) -> None:
        """Wait for the turn to move money: the first statement of every transaction that does.

        Without it, two transactions of PostgreSQL that touch leases, attempts and accounts in different order
        wait for each other. With it they go one after the other, as on SQLite, whose BEGIN IMMEDIATE does the
        same. It scales with the load: while one group commit waits the next answers join it, so that groups
        grow and their number does not.
        """
        self._store.take_turn(connection, _LOCK_KEY, brief=brief)

    def today(self, connection: Connection) -> str:
        """The day (YYYY-MM-DD) that a reservation made now falls on; its account is open afterwards.

        The day is the database's clock's in the ledger's zone, and never goes back: not if the clock is set
        back over midnight, nor if the zone is changed for one where it is still yesterday. So every day's cap
        is there once. A zone further east begins the next day earlier.
        """
        last = self._last_day(connection)
        day = self._not_before(connection, last)
        if day == last:
            return day
        if last is None:
            connection.execute(
                insert_into(connection, ledger_clock).values(id=1, last_day=day).on_conflict_do_nothing()
            )
        connection.execute(
            update(ledger_clock)
            .where(ledger_clock.c.id == 1, ledger_clock.c.last_day < day)
            .values(last_day=day)
        )
        self._open(connection, Account(DAY_SCOPE, day))
        return day

    def current_day(self, connection: Connection) -> str:
        """What ``today`` says, without opening anything: for readers. Its account may not be there yet."""
        return self._not_before(connection, self._last_day(connection))

    def _last_day(self, connection: Connection) -> str | None:
        query = select(ledger_clock.c.last_day).where(ledger_clock.c.id == 1)
        return connection.execute(query).scalar_one_or_none()

    def _not_before(self, connection: Connection, last: str | None) -> str:
        now = datetime.fromtimestamp(self._store.now(connection), self._zone)
        return max(now.date().isoformat(), last or "")

    def next_day_starts_at(self, day: str) -> float:
        """Unix seconds at which the day after ``day`` begins in the ledger's zone.

        Days of a daylight-saving change have their own length. Where midnight is skipped, the instant of the
        change is meant: there the new day begins.
        """
        midnight = datetime.fromisoformat(day).replace(tzinfo=self._zone) + timedelta(days=1)
        return midnight.timestamp()

    def daily_cap_nusd(self, connection: Connection) -> int | None:
        """The cap that new days start with; None if it was lifted."""
        return self._cap_of(connection, DAY_SCOPE)

    def set_daily_cap(self, connection: Connection, cap_nusd: int | None) -> None:
        """Change the daily cap, from the present day on."""
        self.set_cap(connection, DAY_SCOPE, cap_nusd)

    def set_cap(self, connection: Connection, scope: str, cap_nusd: int | None) -> None:
        """Change a cap per day, from the present day on. What was spent on it before counts.

        Args:
            connection: a write transaction, locked.
            scope: ``day``, ``provider:NAME``, ``task:NAME`` or ``tier:NAME``.
            cap_nusd: nano-dollars a day; None lifts it.
        """
        statement = insert_into(connection, caps).values(scope=scope, cap_nusd=cap_nusd)
        connection.execute(
            statement.on_conflict_do_update(index_elements=[caps.c.scope], set_={"cap_nusd": cap_nusd})
        )
        day = self.today(connection)
        self._open(connection, Account(scope, day))
        from_now_on = (ledger_accounts.c.scope == scope, ledger_accounts.c.period >= day)
        connection.execute(update(ledger_accounts).where(*from_now_on).values(cap_nusd=cap_nusd))

    def open_job(self, connection: Connection, job_id: int, max_cost_nusd: int | None) -> None:
        """Open a job's account, with its own cap if it has one."""
        self.set_job_cap(connection, job_id, max_cost_nusd)

    def set_job_cap(self, connection: Connection, job_id: int, max_cost_nusd: int | None) -> None:
        """Change a job's own cap."""
        account = job_account(job_id)
        self._open(connection, account)
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

    def opened(self, connection: Connection, accounts: Sequence[Account]) -> list[Balance]:
        """``balances`` of all these accounts: those that are not there are opened."""
        found = self.balances(connection, accounts)
        if len(found) == len(accounts):
            return found
        for account in accounts:
            self._open(connection, account)
        return self.balances(connection, accounts)

    def capped(self, connection: Connection, day: str) -> list[Balance]:
        """The account of every cap in force on a day: its own, the named ones, those of unfinished jobs.

        One that nothing stood under yet is empty.
        """
        named = connection.execute(
            select(caps.c.scope)
            .where(caps.c.scope != DAY_SCOPE, caps.c.cap_nusd.is_not(None))
            .order_by(caps.c.scope)
        ).scalars()
        unfinished = connection.execute(
            select(jobs.c.id).where(jobs.c.state.in_(UNFINISHED)).order_by(jobs.c.id)
        ).scalars()
        accounts = [Account(DAY_SCOPE, day), *(Account(scope, day) for scope in named)]
        accounts += [job_account(job_id) for job_id in unfinished]
        known = {found.account: found for found in self.balances(connection, accounts)}
        for account in accounts:
            if account not in known:
                known[account] = Balance(account, self._cap_of(connection, account.scope), 0, 0)
        return [known[account] for account in accounts if known[account].cap_nusd is not None]

    def room_nusd(self, connection: Connection, accounts: Sequence[Account]) -> int | None:
        """What all these accounts together still admit, or None where none has a cap."""
        return least_room(self.balances(connection, accounts))

    def reserve(
        self, connection: Connection, accounts: Sequence[Account], amount_nusd: int
    ) -> Account | None:
        """Reserve an amount under every account, or under none; accounts that are not there yet are opened.

        Returns:
            None if reserved, else the account whose cap does not admit it.
        """
        return self.reserve_each(connection, [(account, amount_nusd) for account in accounts])

    def reserve_each(
        self, connection: Connection, amounts_nusd: Sequence[tuple[Account, int]]
    ) -> Account | None:
        """Reserve an amount of its own under each account, or nothing at all; see ``reserve``."""
        taken: list[dict[str, str | int]] = []
        for account, amount_nusd in amounts_nusd:
            if amount_nusd == 0:
                continue
            if not self._reserve(connection, account, amount_nusd):
                if taken:
                    connection.execute(_MOVE, taken)
                return account
            taken.append({"s": account.scope, "p": account.period, "r": -amount_nusd, "c": 0})
        return None

    def move(self, connection: Connection, movements: Movements) -> None:
        """Book settlements and releases; never refused, because the money is gone or given back."""
        moved = [entry for entry in movements.in_locking_order() if entry[1] != _NOTHING]
        if not moved or connection.execute(_MOVE, _rows(moved)).rowcount == len(moved):
            return
        # Some are not there: the others have been moved, these are opened first.
        there = {found.account for found in self.balances(connection, [account for account, _ in moved])}
        missing = [(account, movement) for account, movement in moved if account not in there]
        for account, _ in missing:
            self._open(connection, account)
        if missing:
            connection.execute(_MOVE, _rows(missing))

    def _reserve(self, connection: Connection, account: Account, amount_nusd: int) -> bool:
        values = {"s": account.scope, "p": account.period, "x": amount_nusd}
        if connection.execute(_RESERVE, values).rowcount == 1:
            return True
        opened = self._open(connection, account)
        return opened and connection.execute(_RESERVE, values).rowcount == 1

    def _open(self, connection: Connection, account: Account) -> bool:
        """Open an account with the cap of its scope, unless it is there; whether it was opened."""
        cap_nusd = self._cap_of(connection, account.scope)
        statement = insert_into(connection, ledger_accounts).values(
            scope=account.scope, period=account.period, cap_nusd=cap_nusd, reserved_nusd=0, spent_nusd=0
        )
        opening = statement.on_conflict_do_nothing().returning(ledger_accounts.c.scope)
        return connection.execute(opening).one_or_none() is not None

    def _cap_of(self, connection: Connection, scope: str) -> int | None:
        """The cap that an account of this scope starts with."""
        if scope.startswith(_JOB_PREFIX):
            job_id = int(scope.removeprefix(_JOB_PREFIX))
            own = select(jobs.c.max_cost_nusd).where(jobs.c.id == job_id)
            return connection.execute(own).scalar_one_or_none()
        row = connection.execute(select(caps.c.cap_nusd).where(caps.c.scope == scope)).one_or_none()
        if row is None:
            return DEFAULT_DAILY_CAP_NUSD if scope == DAY_SCOPE else None
        return None if row.cap_nusd is None else int(row.cap_nusd)


_NOTHING: Final = Movement(0, 0)


def _sum(one: Movement, other: Movement) -> Movement:
    return Movement(one.reserved_nusd + other.reserved_nusd, one.spent_nusd + other.spent_nusd)


def _rows(moved: Iterable[tuple[Account, Movement]]) -> list[dict[str, str | int]]:
    return [
        {"s": account.scope, "p": account.period, "r": movement.reserved_nusd, "c": movement.spent_nusd}
        for account, movement in moved
    ]


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
