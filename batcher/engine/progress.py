"""What an engine is doing, counted in memory: for displays, log lines and the stored waiting reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from batcher.alerts.rates import Rates
from batcher.engine.log import EngineLog
from batcher.engine.marks import Mark
from batcher.store.attempts import Settlement


@dataclass(slots=True)
class Progress:
    """Counters of one run, and why it waits.

    Attributes:
        started: on the clock of the running loop, in which the run must be made.
        sent: calls that left.
        in_flight: calls on their way.
        done: items answered in this run, at a cost or by reuse of a twin's answer.
        failed: dead letters of this run.
        outcomes: settled calls by outcome.
        rates: how many answers of each model fit and how many calls fail, for alerts.
        last_wait: why the item waits that waits longest, and until when on the loop's clock.
        log: where failures are told.
    """

    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    sent: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    rates: Rates = field(default_factory=Rates)
    last_wait: tuple[str, float] | None = None
    log: EngineLog = field(default_factory=EngineLog)

    def counters(self) -> Counter[str]:
        """What only ever grows, by name; calls that ended as ``outcome:`` and how."""
        names = ("done", "failed", "input_tokens", "output_tokens", "cost_nusd")
        counted = Counter({name: getattr(self, name) for name in names})
        counted.update({f"outcome:{outcome}": count for outcome, count in self.outcomes.items()})
        return counted

    def attempt_sent(self) -> None:
        """A call leaves."""
        self.sent += 1
        self.in_flight += 1

    def attempt_settled(self, mark: Mark, settlement: Settlement) -> None:
        """A call has ended."""
        self.in_flight -= 1
        self.outcomes[settlement.outcome] += 1
        self.input_tokens += settlement.usage.input_tokens
        self.output_tokens += settlement.usage.output_tokens
        self.cost_nusd += settlement.cost_nusd
        self.rates.record(mark.job_id, mark.model, mark.purpose, settlement.outcome)
        self.log.call_ended(mark, settlement)

    def item_waits(self, reason: str, seconds: float) -> None:
        """An item waits before it is tried again."""
        until = asyncio.get_running_loop().time() + seconds
        if self.last_wait is None or until > self.last_wait[1]:
            self.last_wait = (reason, until)

    def waiting_reason(self, waits: dict[str, str]) -> str | None:
        """One line that says what the run waits for, or None while calls are on their way.

        Args:
            waits: reasons by key: a model's name, and the account behind ``#``.
        """
        if waits:
            return "; ".join(sorted({f"{key.partition('#')[0]}: {why}" for key, why in waits.items()}))
        if self.in_flight == 0 and self.last_wait is not None:
            reason, until = self.last_wait
            left = until - asyncio.get_running_loop().time()
            if left > 0:
                return f"{reason}: {left:.0f} s"
        return None
