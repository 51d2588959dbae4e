"""The book of alerts: each is raised once per rule, scope and ledger day, and stays until it is delivered.

Every function works on a connection of the caller's transaction, so that an alert is kept if and only if what
it tells of is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, update

from batcher.alerts.wording import bounded_lines, one_line
from batcher.store.database import insert_into
from batcher.store.tables import alerts

SCOPE_LENGTH: Final = 200
"""What the column holds."""

FIRST_WAIT_S: Final = 60.0
LONGEST_WAIT_S: Final = 3600.0
MOST_TRIES: Final = 30
"""An alert that a channel did not take is tried again after a minute, then after twice as long each time, up
to an hour: 30 tries are a day."""

_CLAIMED_AT_ONCE: Final = 50


class Rule(StrEnum):
    """What can be worth an alert."""

    CAP_50 = "cap_50"
    CAP_80 = "cap_80"
    CAP_100 = "cap_100"
    OVER_CAP = "over_cap"
    OVER_RESERVATION = "over_reservation"
    VENDOR_HIGHER = "vendor_higher"
    INVALID_RATE = "invalid_rate"
    ERROR_SPIKE = "error_spike"
    JOB_DONE = "job_done"
    JOB_FAILED = "job_failed"
    JOB_STALLED = "job_stalled"
    ACCURACY = "accuracy"
    PRICES_OLD = "prices_old"
    DIGEST = "digest"
    TEST = "test"

    @property
    def is_trouble(self) -> bool:
        """Whether somebody may have to act, or only wants to know."""
        return self not in {Rule.CAP_50, Rule.JOB_DONE, Rule.DIGEST, Rule.TEST}


OFF_BY_DEFAULT: Final = frozenset({Rule.JOB_DONE})
"""A job that ends as it should is told in the digest."""


class AlertState(StrEnum):
    """Where an alert stands.

    It is ``given_up`` when a channel took it in none of its tries, and ``muted`` when its rule is off.
    """

    PENDING = "pending"
    SENT = "sent"
    GIVEN_UP = "given_up"
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody is to hear of.

    Attributes:
        rule: why.
        scope: what about; with the rule and the day it says whether it was told before: ``day``,
            ``tier:economy``, ``job:3``, ``job:3/gpt-4o-mini``. 200 characters at most.
        title: one line of at most 150 characters: a mail's subject.
        body: a few lines. Never the text of a document, nor a key.
    """

    rule: Rule
    scope: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert as the book has it.

    Attributes:
        taken_by: fingerprints of the channels that have it.
        tries: rounds of delivery begun.
        next_try_at: when the next one may begin, Unix seconds.
    """

    id: int
    alert: Alert
    day: str
    state: AlertState
    taken_by: frozenset[str]
    tries: int
    next_try_at: float
    created_at: float
    sent_at: float | None


def raise_alert(connection: Connection, alert: Alert, day: str, now: float) -> bool:
    """Keep an alert for delivery, unless its rule has told of its scope on this day.

    Title and body are made plain and short first, whoever wrote what they quote.

    Args:
        connection: a write transaction.
        alert: what to tell.
        day: the ledger's day, YYYY-MM-DD.
        now: Unix seconds.

    Returns:
        Whether it is new.
    """
    statement = insert_into(connection, alerts).values(
        rule=alert.rule.value,
        scope=alert.scope[:SCOPE_LENGTH],
        day=day,
        title=one_line(alert.title),
        body=bounded_lines(alert.body),
        state=AlertState.PENDING.value,
        taken_by="",
        tries=0,
        next_try_at=now,
        created_at=now,
    )
    # PostgreSQL's driver counts no rows for an insert that says which id it gave.
    kept = connection.execute(statement.on_conflict_do_nothing().returning(alerts.c.id))
    return kept.one_or_none() is not None


def has_due(connection: Connection, now: float) -> bool:
    """Whether any alert waits for a round of delivery now."""
    query = select(alerts.c.id).where(alerts.c.state == AlertState.PENDING.value, alerts.c.next_try_at <= now)
    return connection.execute(query.limit(1)).first() is not None


def claim_due(
    connection: Connection, now: float, off: Collection[Rule] = (), *, at_once: bool = False
) -> list[StoredAlert]:
    """Begin a round of delivery of the alerts that are due: until their next try they are the caller's.

    An alert whose tries are used up, or whose rule is off, comes too, in its new state: tell of the former.

    Args:
        connection: a write transaction.
        now: Unix seconds.
        off: rules that are switched off.
        at_once: also those that wait for a later try, unless a round began less than a minute ago.
    """
    query = select(alerts).where(alerts.c.state == AlertState.PENDING.value)
    if not at_once:
        query = query.where(alerts.c.next_try_at <= now)
    # Rows that another process is claiming are its own: PostgreSQL skips them, SQLite has one writer.
    query = query.order_by(alerts.c.id).limit(_CLAIMED_AT_ONCE).with_for_update(skip_locked=True)
    found = [_stored(row) for row in connection.execute(query)]
    claimed = [stored for stored in found if not at_once or _begun_at(stored) + FIRST_WAIT_S <= now]
    return [_claim(connection, stored, now, off) for stored in claimed]


def mark_taken(
    connection: Connection, ids: Collection[int], channel: str, channels: Collection[str], now: float
) -> None:
    """Note that a channel has these alerts; those that all ``channels`` have are sent."""
    for alert_id in sorted(ids):
        [taken_by] = connection.execute(
            update(alerts)
            .where(alerts.c.id == alert_id)
            .values(taken_by=alerts.c.taken_by + f"{channel} ")
            .returning(alerts.c.taken_by)
        ).one()
        if set(channels) <= set(taken_by.split()):
            _set_sent(connection, alert_id, now)


def mark_sent(connection: Connection, ids: Collection[int], now: float) -> None:
    """Note that nobody has to hear of these any more."""
    for alert_id in sorted(ids):
        _set_sent(connection, alert_id, now)


def list_alerts(connection: Connection, limit: int | None = None) -> list[StoredAlert]:
    """Alerts, newest first."""
    query = select(alerts).order_by(alerts.c.id.desc())
    return [_stored(row) for row in connection.execute(query if limit is None else query.limit(limit))]


def count_pending(connection: Connection) -> int:
    """How many alerts a channel still has to take."""
    query = select(func.count()).where(alerts.c.state == AlertState.PENDING.value)
    return int(connection.execute(query).scalar_one())


def wait_s(tries: int) -> float:
    """Seconds from the beginning of a round until the next may begin, after so many rounds before it."""
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 10)))


def _begun_at(stored: StoredAlert) -> float:
    """When the latest round began, or long ago if there was none."""
    return 0.0 if stored.tries == 0 else stored.next_try_at - wait_s(stored.tries - 1)


def _claim(connection: Connection, stored: StoredAlert, now: float, off: Collection[Rule]) -> StoredAlert:
    state = AlertState.PENDING
    if stored.alert.rule in off:
        state = AlertState.MUTED
    elif stored.tries >= MOST_TRIES:
        state = AlertState.GIVEN_UP
    row = connection.execute(
        update(alerts)
        .where(alerts.c.id == stored.id)
        .values(state=state.value, tries=stored.tries + 1, next_try_at=now + wait_s(stored.tries))
        .returning(alerts)
    ).one()
    return _stored(row)


def _set_sent(connection: Connection, alert_id: int, now: float) -> None:
    connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id, alerts.c.state != AlertState.SENT.value)
        .values(state=AlertState.SENT.value, sent_at=now)
    )


def _stored(row: Row[Any]) -> StoredAlert:
    return StoredAlert(
        id=row.id,
        alert=Alert(Rule(row.rule), row.scope, row.title, row.body),
        day=row.day,
        state=AlertState(row.state),
        taken_by=frozenset(row.taken_by.split()),
        tries=row.tries,
        next_try_at=row.next_try_at,
        created_at=row.created_at,
        sent_at=row.sent_at,
    )
