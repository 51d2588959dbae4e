"""Delivers alerts: to the log at once, to each channel in a thread of its own until it has them.

A channel that is dead, slow or hangs holds up nobody but itself. What it did not take stays pending in the
store, and the next round of any process that is due tries again. Delivery is at least once: a process that
dies between a channel's answer and its commit, or a channel that answers a minute late, doubles a message.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.alerts.book import (
    AlertState,
    Rule,
    StoredAlert,
    claim_due,
    has_due,
    mark_sent,
    mark_taken,
)
from batcher.alerts.channels import Channel
from batcher.store.database import Store

log: Final = logging.getLogger("batcher.alerts")

MESSAGE_LENGTH: Final = 6_000
"""Characters of one message; alerts beyond it go into the next."""

TEST_TIMEOUT_S: Final = 30.0

SLOW_S: Final = 1.0
SHUNNED_S: Final = 60.0
"""A channel that took longer to fail is not waited for again in the next minute."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a message to one channel. ``fault`` is None if the channel took it."""

    channel: str
    fault: str | None


class Delivery:
    """Delivers a store's alerts.

    Args:
        store: where they are kept.
        urls: the channels, as apprise reads them.
        off: rules that are switched off.
    """

    def __init__(self, store: Store, urls: Sequence[str], off: Collection[Rule]) -> None:
        self._store = store
        self._off = frozenset(off)
        self._channels = [Channel(number, url) for number, url in enumerate(urls, start=1)]
        self._lines = [_Line(channel, self._note_taken) for channel in self._channels]
        self._round = threading.Lock()

    @property
    def has_channels(self) -> bool:
        """Whether alerts go anywhere but to the log."""
        return bool(self._channels)

    def deliver(self, wait_s: float, *, at_once: bool = False) -> None:
        """Hand what is due to the log and the channels.

        Args:
            wait_s: how long to wait for the channels' answers at most. One that has been silent for so long
                already, or until it failed a moment ago, is not waited for.
            at_once: also what waits for a later try.

        Raises:
            BatcherError: if the store cannot be used.
        """
        with self._round:
            claimed = self._claim(at_once=at_once)
            for stored in claimed:
                self._tell_log(stored)
            for line in self._lines:
                line.put(claimed)
        deadline = time.monotonic() + wait_s
        for line in self._lines:
            line.wait(deadline, wait_s)

    def faults(self) -> list[Tried]:
        """The channels that did not take their latest message, or have not answered yet."""
        return [Tried(line.channel.name, line.fault) for line in self._lines if line.fault is not None]

    def test(self, title: str, body: str, timeout_s: float = TEST_TIMEOUT_S) -> list[Tried]:
        """Send a message to every channel at once, past the store, and wait for the answers."""
        return send_to_all(self._channels, title, body, timeout_s)

    def _claim(self, *, at_once: bool) -> list[StoredAlert]:
        with self._store.read() as connection:
            if not at_once and not has_due(connection, self._store.now(connection)):
                return []
        fingerprints = {channel.fingerprint for channel in self._channels}
        with self._store.write() as connection:
            now = self._store.now(connection)
            claimed = claim_due(connection, now, self._off, at_once=at_once)
            settled = [
                stored.id
                for stored in claimed
                if stored.state is AlertState.PENDING and fingerprints <= stored.taken_by
            ]
            mark_sent(connection, settled, now)
        return claimed

    def _tell_log(self, stored: StoredAlert) -> None:
        alert = stored.alert
        what = f"{alert.rule} {alert.scope}: {alert.title}"
        if stored.state is AlertState.GIVEN_UP:
            log.warning("alert given up after %d tries: %s", stored.tries - 1, what)
        elif stored.state is AlertState.PENDING and stored.tries == 1:
            log.log(logging.WARNING if alert.rule.is_trouble else logging.INFO, "alert %s", what)

    def _note_taken(self, channel: Channel, ids: Collection[int]) -> None:
        fingerprints = {known.fingerprint for known in self._channels}
        with self._store.write() as connection:
            mark_taken(connection, ids, channel.fingerprint, fingerprints, self._store.now(connection))


class _Line:
    """What is on its way to one channel. A thread of its own lives while there is something."""

    def __init__(self, channel: Channel, on_taken: Callable[[Channel, Collection[int]], None]) -> None:
        self.channel = channel
        self._on_taken = on_taken
        self._lock = threading.Lock()
        self._queued: dict[int, StoredAlert] = {}
        self._in_hand: frozenset[int] = frozenset()
        self._since: float | None = None
        self._fault: str | None = None
        self._shunned_until = 0.0
        self._idle = threading.Event()
        self._idle.set()

    @property
    def fault(self) -> str | None:
        """Why the latest message is not there, or None."""
        since = self._since
        return f"no answer for {time.monotonic() - since:.0f} s" if since is not None else self._fault

    def put(self, claimed: Sequence[StoredAlert]) -> None:
        """Send those of these alerts that the channel lacks, as soon as what is before them is sent."""
        with self._lock:
            for stored in claimed:
                is_taken = self.channel.fingerprint in stored.taken_by or stored.id in self._in_hand
                if stored.state is AlertState.PENDING and not is_taken:
                    self._queued[stored.id] = stored
            if self._queued and self._idle.is_set():
                self._idle.clear()
                name = f"batcher-alerts-{self.channel.number}"
                threading.Thread(target=self._run, name=name, daemon=True).start()

    def wait(self, deadline: float, patience_s: float) -> None:
        """Wait until nothing is on its way, unless the channel is silent for too long, or just was."""
        while time.monotonic() >= self._shunned_until and not self._idle.is_set():
            since = self._since
            left = min(deadline, deadline if since is None else since + patience_s) - time.monotonic()
            if left <= 0:
                return
            self._idle.wait(min(left, 0.05))

    def _run(self) -> None:
        while batch := self._take():
            fault = self._send(batch)
            with self._lock:
                if fault is not None and fault != self._fault:
                    log.warning("%s did not take an alert: %s", self.channel.name, fault)
                now = time.monotonic()
                is_slow = self._since is not None and now - self._since > SLOW_S
                self._fault, self._since, self._in_hand = fault, None, frozenset()
                if fault is not None and is_slow:
                    self._shunned_until = now + SHUNNED_S
                    # What is queued would take as long to fail: its next try is noted in the store.
                    self._queued.clear()

    def _take(self) -> list[StoredAlert]:
        with self._lock:
            batch: list[StoredAlert] = []
            length = 0
            for stored in list(self._queued.values()):
                length += len(stored.alert.title) + len(stored.alert.body)
                if batch and length > MESSAGE_LENGTH:
                    break
                batch.append(self._queued.pop(stored.id))
            self._in_hand = frozenset(stored.id for stored in batch)
            if batch:
                self._since = time.monotonic()
            else:
                self._idle.set()
            return batch

    def _send(self, batch: list[StoredAlert]) -> str | None:
        try:
            title, body, is_trouble = compose(batch)
            fault = self.channel.send(title, body, is_trouble=is_trouble)
            if fault is None:
                self._on_taken(self.channel, self._in_hand)
        except Exception as error:  # noqa: BLE001 - a thread that nobody waits for must say so itself
            return f"{type(error).__name__} while it was sent or noted as sent"
        return fault


def compose(batch: Sequence[StoredAlert]) -> tuple[str, str, bool]:
    """One message out of several alerts: its title, its text, and whether it tells of trouble."""
    first, *others = sorted(batch, key=lambda stored: stored.alert.rule is not Rule.DIGEST)
    more = f" (and {len(others)} more)" if others else ""
    parts = [
        f"{stored.alert.title}\n{stored.alert.body}\n({stored.day}, alert {stored.alert.rule})"
        for stored in (first, *others)
    ]
    is_trouble = any(stored.alert.rule.is_trouble for stored in batch)
    return f"batcher: {first.alert.title}{more}", "\n\n".join(parts), is_trouble


def send_to_all(channels: Sequence[Channel], title: str, body: str, timeout_s: float) -> list[Tried]:
    """Send one message to all channels at the same time; one that is silent for ``timeout_s`` has failed."""
    outcomes: dict[int, Tried] = {}

    def send(channel: Channel) -> None:
        outcomes[channel.number] = Tried(channel.name, channel.send(title, body))

    threads = [threading.Thread(target=send, args=(channel,), daemon=True) for channel in channels]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [
        outcomes.get(channel.number) or Tried(channel.name, f"no answer within {timeout_s:.0f} s")
        for channel in channels
    ]
