"""What caps keep a run from doing: which jobs and tiers, which cap, and until when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from batcher.budget.ledger import Account, Balance, Ledger
from batcher.engine.fitting import Shortage
from batcher.engine.next_steps import NextSteps
from batcher.money import format_usd
from batcher.store.database import Store
from batcher.store.jobs import BUDGET_REASON
from batcher.store.leases import has_active

if TYPE_CHECKING:
    from batcher.engine.lane import Lane
    from batcher.engine.marks import BudgetExhaustedError

_REST_S: Final = 10.0
"""How long a stand-in model is left alone whose cap is taken up by calls that may yet cost less."""

_LEFT_TO_OTHERS_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """A stand-in model that is left alone until then, Unix seconds, because of a cap."""

    lane: Lane
    key: str
    reason: str
    until: float


class Shortages:
    """The shortages of one run.

    Args:
        store: the store.
        ledger: its books.

    Attributes:
        lanes: by job and tier, what could not be leased when it was last looked at.
        steps: what documents of ladders need that were refused.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._put_off: dict[tuple[int, str], tuple[Shortage, float]] = {}
        self._given_back: set[int] = set()
        self._resting: list[_Rest] = []
        self.lanes: dict[tuple[int, str], Shortage] = {}
        self.steps = NextSteps(ledger)

    def __bool__(self) -> bool:
        return bool(self.lanes or self._put_off or self.steps.shortages)

    def hold(self, connection: Connection) -> None:
        """Let nobody lease or settle until the transaction ends: first of all where a job is paused."""
        self._ledger.lock(connection)

    def job_ids(self) -> set[int]:
        """The jobs that caps hold back."""
        return {found.job_id for found in self._of(None)}

    def keep_jobs(self, running: Collection[int]) -> None:
        """Forget the shortages of jobs that do not run any more: one that runs again is tried anew."""
        self.steps.keep_jobs(running)
        for found in (self.lanes, self._put_off):
            for key in [key for key in found if key[0] not in running]:
                del found[key]

    def keep_tiers(self, job_id: int, pending: Collection[str]) -> None:
        """Forget the shortages of a job's tiers where nothing waits any more."""
        self.steps.keep_tiers(job_id, pending)
        for key in [key for key in self.lanes if key[0] == job_id and key[1] not in pending]:
            del self.lanes[key]

    def refused(self, lane: Lane, error: BudgetExhaustedError) -> float:
        """Take in that a cap did not admit a call; returns when its item may be tried again, Unix seconds.

        A first call's item is leased again as soon as there is room. A follow-up call would come too late
        for the answer that it follows, and the item would be paid for again: not before tomorrow. A stand-in
        model that its cap does not admit is left alone, and the lane waits for its first model. A ladder's
        model stands in for none: its document waits until what it needs fits, and keeps what it has bought.
        """
        mark = error.mark
        shortage = Shortage(mark.job_id, mark.tier, (error.balance,), error.needed_nusd)
        with self._store.write() as connection:
            self._ledger.lock(connection)
            now = self._store.now(connection)
            tomorrow = self._ledger.next_day_starts_at(self._ledger.today(connection))
        if not error.is_follow_up and lane.ladder is not None:
            self.steps.add(lane.queue, mark)
            # Another process may try sooner, which knows nothing of it; this one does as soon as it fits.
            return now + _LEFT_TO_OTHERS_S if error.may_pass else tomorrow
        if not error.is_follow_up:
            # A router's model is none of the lane's: its items wait for it as for the first of these.
            named = (found for found in lane.bindings if found.model.name == mark.model)
            binding = next(named, lane.first)
            if binding is not lane.first:
                if binding.key not in lane.dead:
                    reason = self._describe([shortage])
                    until = now + _REST_S if shortage.may_pass else tomorrow
                    lane.stop(binding, reason)
                    self._resting.append(_Rest(lane, binding.key, reason, until))
                return 0.0
            if mark.item_id not in self._given_back:
                # Calls of the same chunk used up what was reserved for it.
                self._given_back.add(mark.item_id)
                return 0.0
        self._put_off[mark.job_id, mark.tier] = (shortage, tomorrow)
        return tomorrow

    def wake(self, now: float) -> None:
        """Let models that rested long enough work again, and forget what was put off until now."""
        for rest in [rest for rest in self._resting if rest.until <= now]:
            self._resting.remove(rest)
            if rest.lane.dead.get(rest.key) == rest.reason:
                del rest.lane.dead[rest.key]
        for key in [key for key, (_, until) in self._put_off.items() if until <= now]:
            del self._put_off[key]

    def forget_raised(self, connection: Connection) -> set[int]:
        """Forget what was put off for a cap that was raised since and has room; returns whose that is.

        Room alone is not enough: each time the answer before the refused call would be paid for again.
        """
        put_off = {key: shortage for key, (shortage, _) in self._put_off.items()}
        accounts = list({balance.account for found in put_off.values() for balance in found.blocking})
        fresh = {found.account: found for found in self._ledger.balances(connection, accounts)}
        eased = [
            key
            for key, found in put_off.items()
            if all(_is_raised(then, fresh.get(then.account), found.needed_nusd) for then in found.blocking)
        ]
        for key in eased:
            del self._put_off[key]
        return {job_id for job_id, _ in eased}

    def may_pass(self) -> bool:
        """Whether an idle run has to wait: others hold what may make room, or work on the same jobs.

        So a run ends only when what is left under a cap is less than the least that could be reserved, and
        none of it is outstanding.
        """
        shortages = self._leasable()
        with self._store.read() as connection:
            if any(shortage.may_pass for shortage in shortages) and has_active(connection):
                return True
            return any(has_active(connection, job_id) for job_id in {found.job_id for found in shortages})

    def has_eased(self, connection: Connection, job_id: int) -> bool:
        """Whether caps admit by now what they did not when a tier of a job was last looked at."""
        for shortage in self._leasable():
            accounts = [balance.account for balance in shortage.blocking]
            now = self._ledger.balances(connection, accounts)
            if shortage.job_id == job_id and all(balance.admits(shortage.needed_nusd) for balance in now):
                return True
        return False

    def waiting(self, job_id: int | None = None) -> str | None:
        """What to tell of a job, or of all, that goes on as far as caps let it; None if none is reached."""
        names = {found.account.name for found in self._of(job_id)}
        return f"{BUDGET_REASON} {' and '.join(sorted(names))} reached" if names else None

    def pause(self, connection: Connection, job_id: int) -> tuple[str, float | None] | None:
        """Why a job must pause, and when it may go on by itself, Unix seconds; None if no cap stops it."""
        shortages = self._of(job_id)
        if not shortages:
            return None
        accounts = list(dict.fromkeys(found.account for found in shortages))
        balances = {found.account: found for found in self._ledger.balances(connection, accounts)}
        fresh = [
            Shortage(job_id, found.tier, (balances[found.account],), found.needed_nusd) for found in shortages
        ]
        reason = self._describe(fresh)
        if all(balance.admits(found.needed_nusd) for found in fresh for balance in found.blocking):
            reason += ". There is room for it by now: resume"
        elif all(found.may_pass for found in fresh):
            reason += ". Other jobs hold what is reserved: resume when they have ended"
        days = [found.account.period for found in fresh if found.account.period]
        return reason, min(map(self._ledger.next_day_starts_at, days), default=None)

    def _describe(self, shortages: Iterable[Shortage]) -> str:
        """The caps in the way, each once, and the least that the next call may cost."""
        told: dict[Account, str] = {}
        needed_nusd = []
        for found in shortages:
            balance = next(balance for balance in found.blocking if balance.account == found.account)
            told[found.account] = balance.describe()
            needed_nusd.append(found.needed_nusd)
        caps = "; ".join(told[account] for account in sorted(told))
        return f"{BUDGET_REASON} {caps}; the next call may cost {format_usd(min(needed_nusd))}"

    def _leasable(self) -> list[Shortage]:
        """What would be leased as soon as there is room."""
        return [*self.lanes.values(), *self.steps.shortages]

    def _of(self, job_id: int | None) -> list[Shortage]:
        """The shortages of a job, or all: those of lanes before those of calls that were put off."""
        put_off = {key: shortage for key, (shortage, _) in list(self._put_off.items())}
        known = [*{**put_off, **self.lanes}.values(), *self.steps.shortages]
        return [found for found in known if job_id is None or found.job_id == job_id]


def _is_raised(then: Balance, now: Balance | None, needed_nusd: int) -> bool:
    """Whether a cap that was in the way is higher by now, or none any more, and admits what it did not."""
    if now is None or now.cap_nusd is None:
        return True
    return now.cap_nusd > (then.cap_nusd or 0) and now.admits(needed_nusd)
