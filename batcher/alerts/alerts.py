"""What the rest of batcher sees of alerts: look for what is worth one, tell of something, deliver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, select

from batcher.alerts.book import OFF_BY_DEFAULT, Alert, Rule, raise_alert
from batcher.alerts.caps import cap_alerts
from batcher.alerts.delivery import Delivery, Tried, log
from batcher.alerts.jobs import (
    SampledShare,
    Thresholds,
    accuracy_alerts,
    ended_alerts,
    failed_alerts,
    price_alerts,
    read_jobs,
    stalled_alerts,
)
from batcher.alerts.rates import Rates
from batcher.domain import JobState
from batcher.errors import BatcherError
from batcher.settings import Settings
from batcher.store.database import Store
from batcher.store.jobs import BUDGET_REASON
from batcher.store.tables import ledger_clock

ANSWER_WAIT_S: Final = 5.0
"""How much longer something may take at its end for alerts to go out: what has not stays pending."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What alerts cannot read from the store.

    Attributes:
        interval: the 95 % confidence interval of a share, from its successes and trials.
        price_dates: by model that can be used and costs something, when its prices were read (YYYY-MM-DD).
        sampled: a job's estimated accuracy by what was drawn of it, or None.
    """

    interval: Callable[[int, int], tuple[float, float]]
    price_dates: Callable[[], Mapping[str, str]]
    sampled: Callable[[Connection, int], SampledShare | None] = lambda *_: None


class _Raised(NamedTuple):
    """An alert that this process has put into the book, or found there."""

    rule: Rule
    scope: str
    day: str


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    """Let nothing out that goes wrong within: no alert is worth a run."""
    try:
        yield
    except BatcherError as error:
        log.warning("%s: %s", what, error)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("%s: %s", what, type(error).__name__)


def _ending(job: Row[Any]) -> tuple[Any, ...]:
    """What tells one end, pause or wait of a job from the next."""
    waits = (job.waiting_reason or "").startswith(BUDGET_REASON)
    return job.id, job.state, job.waiting_reason if waits else job.reason, job.finished_at


class Alerts:
    """The alerts of one store, in one process. Threads may share it; none of them should be the event loop's.

    Args:
        store: where they are kept.
        settings: channels, rules and thresholds.
        evidence: what else the rules need.
    """

    def __init__(self, store: Store, settings: Settings, evidence: Evidence) -> None:
        self._store = store
        self._settings = settings
        self._evidence = evidence
        self._zone = ZoneInfo(settings.time_zone)
        self._thresholds = Thresholds(
            settings.alert_failed_share,
            # A call that is still within its time limit is no sign of a standstill.
            max(settings.alert_stalled_s, 2 * settings.call_timeout_s),
            settings.alert_prices_days,
        )
        switched = {Rule(name): on for name, on in settings.alert_rules.items()}
        self._off = frozenset(rule for rule in Rule if not switched.get(rule, rule not in OFF_BY_DEFAULT))
        self._delivery = Delivery(store, settings.alert_targets(), self._off)
        self._raised: set[_Raised] = set()
        self._ended: set[tuple[Any, ...]] = set()
        self._lock = threading.Lock()

    @property
    def has_channels(self) -> bool:
        """Whether alerts go anywhere but to the log."""
        return self._delivery.has_channels

    def check(
        self, job_ids: Sequence[int] | None = None, *, rates: Rates | None = None, thorough: bool = True
    ) -> int:
        """Look whether anything is worth an alert, and put it into the book.

        Args:
            job_ids: the jobs to look at; None for those that run, and those that have just ended.
            rates: what this process has counted, if it runs jobs.
            thorough: also what takes counting: failed items, accuracy, standstill and the age of prices.
                Without, a look is a few reads by key, whatever the size of the store.

        Returns:
            How many alerts are new.

        Raises:
            BatcherError: if the store cannot be used.
        """
        # A worker that takes what comes says nothing of a job by being idle.
        quiet_s = rates.quiet_s() if rates is not None and job_ids is not None else None
        with self._lock:
            with self._store.read() as connection:
                now = self._store.now(connection)
                last, today = self._days(connection, now)
                jobs = read_jobs(connection, job_ids, now)
                days = list(dict.fromkeys((last, today)))
                found = [
                    (alert, day or today)
                    for alert, day in cap_alerts(connection, days, [job.id for job in jobs])
                ]
                endings = {_ending(job): job for job in jobs}
                told = set()
                for ending, job in endings.items():
                    alerts = [] if ending in self._ended else list(ended_alerts(connection, job))
                    found += [(alert, today) for alert in alerts]
                    # A cap that a running job waits for may yet come to be one that is reached.
                    if alerts or job.state != JobState.RUNNING.value:
                        told.add(ending)
                if thorough:
                    found += [
                        (alert, today) for alert in self._of_jobs(connection, jobs, now, today, quiet_s)
                    ]
            if rates is not None:
                settings = self._settings
                seen = rates.find(settings.alert_valid_floor, settings.alert_error_share)
                found += [(alert, today) for alert in seen]
            new = self._raise(found)
            # Told once in this process, even if midnight lies between two looks.
            self._ended.update(told)
            return new

    def tell(self, alert: Alert, *, wait_s: float = ANSWER_WAIT_S) -> None:
        """Put an alert into the book and deliver it; never raises.

        Args:
            alert: what to tell.
            wait_s: how long to wait for the channels at most; what is not out by then stays pending.
        """
        with only_logged("an alert could not be kept"), self._lock:
            with self._store.read() as connection:
                day = self._days(connection, self._store.now(connection))[1]
            self._raise([(alert, day)])
        self.deliver(wait_s)

    def deliver(self, wait_s: float = ANSWER_WAIT_S, *, at_once: bool = False) -> None:
        """Send what is due; never raises.

        Args:
            wait_s: how long to wait for the channels at most. One that has been silent for so long already,
                or until it failed a moment ago, is not waited for.
            at_once: also what waits for a later try.
        """
        with only_logged("alerts wait to be delivered"):
            self._delivery.deliver(wait_s, at_once=at_once)

    def conclude(
        self, job_ids: Sequence[int] | None, *, rates: Rates | None = None, wait_s: float = ANSWER_WAIT_S
    ) -> None:
        """Look at jobs whose run is over and deliver what there is to tell; never raises."""
        with only_logged("no look for alerts"):
            self.check(job_ids, rates=rates)
        self.deliver(wait_s)

    def test(self, title: str, body: str) -> list[Tried]:
        """Send a message to every channel at once, past the store, and wait for the answers."""
        return self._delivery.test(title, body)

    def faults(self) -> list[Tried]:
        """The channels that did not take their latest message, and why."""
        return self._delivery.faults()

    def _of_jobs(
        self,
        connection: Connection,
        jobs: Iterable[Row[Any]],
        now: float,
        today: str,
        quiet_s: float | None,
    ) -> list[Alert]:
        limits, found = self._thresholds, list[Alert]()
        dates = self._evidence.price_dates()
        for job in jobs:
            found += failed_alerts(connection, job, limits.failed_share)
            found += stalled_alerts(connection, job, now, quiet_s, limits.stalled_s)
            found += accuracy_alerts(connection, job, self._evidence.interval, self._evidence.sampled)
            found += price_alerts(connection, job, dates, today, limits.prices_days)
        return found

    def _raise(self, found: Iterable[tuple[Alert, str]]) -> int:
        """Keep what is new; the store is written to only if this process has not seen it there yet."""
        unseen = {
            _Raised(alert.rule, alert.scope, day): alert
            for alert, day in found
            if alert.rule not in self._off and _Raised(alert.rule, alert.scope, day) not in self._raised
        }
        if not unseen:
            return 0
        with self._store.write() as connection:
            now = self._store.now(connection)
            new = sum(raise_alert(connection, alert, key.day, now) for key, alert in unseen.items())
        self._raised.update(unseen)
        return new

    def _days(self, connection: Connection, now: float) -> tuple[str, str]:
        """The latest day that the ledger booked on, and the one that it would book on now; writes nothing."""
        today = datetime.fromtimestamp(now, self._zone).date().isoformat()
        last = connection.execute(select(ledger_clock.c.last_day)).scalar_one_or_none() or today
        return last, max(last, today)
