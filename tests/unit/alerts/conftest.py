"""A store on a clock that only the test moves, with its ledger and alerts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from batcher.alerts.alerts import Alerts, Evidence
from batcher.alerts.book import StoredAlert, list_alerts
from batcher.budget.ledger import Ledger
from batcher.settings import load_settings
from batcher.statistics.intervals import wilson
from batcher.store.database import Store
from batcher.store.item_counts import add_to_total
from batcher.store.jobs import NewJob, create_job
from batcher.store.schema import ensure_schema
from batcher.store.tables import items, jobs, ledger_accounts

USD = 1_000_000_000
NOON = 1_795_176_000.0
"""2026-11-20 12:00:00 UTC."""


@dataclass
class House:
    """One store with what belongs to it."""

    store: Store
    clock: list[float]
    folder: Path
    price_dates: dict[str, str] = field(default_factory=dict)

    def alerts(self, **settings: Any) -> Alerts:
        """The alerts of a new process."""
        config = self.folder / "batcher.toml"
        config.touch()
        return Alerts(
            self.store, load_settings(config, **settings), Evidence(_interval, lambda: self.price_dates)
        )

    def raised(self) -> list[StoredAlert]:
        """All alerts, oldest first."""
        with self.store.read() as connection:
            return list_alerts(connection)[::-1]

    def rules(self) -> list[tuple[str, str]]:
        """Rule and scope of all alerts, in order."""
        return sorted((stored.alert.rule.value, stored.alert.scope) for stored in self.raised())

    def cap(self, scope: str, cap_nusd: int | None) -> None:
        """Set a cap per day, or a job's own."""
        ledger = Ledger(self.store, "UTC")
        with self.store.write() as connection:
            if scope.startswith("job:"):
                ledger.open_job(connection, int(scope[4:]), cap_nusd)
            else:
                ledger.set_cap(connection, scope, cap_nusd)

    def spend(self, scope: str, nusd: int) -> None:
        """Let an account have spent so much."""
        self._book(scope, spent_nusd=nusd)

    def reserve(self, scope: str, nusd: int) -> None:
        """Let so much be reserved in an account."""
        self._book(scope, reserved_nusd=nusd)

    def job(self, state: str = "running", **columns: Any) -> int:
        """Store a job that began an hour ago."""
        new = NewJob(
            b"k" * 20, "verdict", ["docs/<b>"], "{}", '{"floor": 0.8}', "economy", None, (), ("m", "n"),
            refresh=False, max_cost_nusd=None,
        )  # fmt: skip
        with self.store.write() as connection:
            job_id = create_job(connection, new, self.clock[0] - 3600).id
            values = {"state": state, "started_at": self.clock[0] - 3600, **columns}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
        return job_id

    def _book(self, scope: str, **nusd: int) -> None:
        with self.store.write() as connection:
            Ledger(self.store, "UTC").today(connection)
            changed = connection.execute(
                update(ledger_accounts).where(ledger_accounts.c.scope == scope).values(**nusd)
            )
        assert changed.rowcount >= 1

    def change(self, job_id: int, **columns: Any) -> None:
        """Change a job's row."""
        with self.store.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(columns))

    def items(self, job_id: int, by_status: Mapping[str, int]) -> None:
        """Give a job items in these states."""
        rows = [
            {
                "job_id": job_id, "source": f"{status}{number}", "accepts_key": 1, "status": status,
                "tier": "economy", "ready_at": 0.0, "reused": False,
                "error_class": "transient" if status == "failed" else None,
            }
            for status, count in by_status.items()
            for number in range(count)
        ]  # fmt: skip
        with self.store.write() as connection:
            connection.execute(insert(items), rows)
            add_to_total(connection, job_id, len(rows))


def _interval(hits: int, trials: int) -> tuple[float, float]:
    found = wilson(hits, trials)
    return found.low, found.high


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty store at noon of 2026-11-20, UTC."""
    clock = [NOON]
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", clock=lambda: clock[0])
    ensure_schema(store)
    yield House(store, clock, tmp_path)
    store.close()
