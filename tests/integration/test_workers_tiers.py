"""Which tiers workers serve: models that are on none, and tiers that nobody serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from batcher.domain import JobState
from batcher.store.tables import items
from tests.support.fleet import Fleet, new_fleet, wait_until
from tests.support.vendor_server import VendorProcess

CARDS = ("--task", "./cards")
ON_NO_TIER = "gpt-4.1-mini"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url) as made:
        config = Path(made.env["BATCHER_HOME"]) / "batcher.toml"
        config.write_text(config.read_text().replace("[tiers]", '[tiers]\nstandard = ["gpt-4.1"]'))
        yield made


def test_a_model_on_no_tier_is_served_and_a_tier_that_nobody_serves_is_named(fleet: Fleet) -> None:
    for name in ("own", "later", "dear", "gone"):
        fleet.table(name, 3)
    fleet.batcher("submit", "own.jsonl", *CARDS, "--model", ON_NO_TIER, "--detach")
    fleet.wait_for_state(1, JobState.RUNNING)
    assert fleet.job(1).tier == "custom"
    assert "batcher worker --beat   (no worker answers)" in fleet.batcher("status", 1).out

    narrow = fleet.worker("--tier", "economy")
    following = fleet.start("submit", "dear.jsonl", *CARDS, "--tier", "premium", name="following")
    told = fleet.batcher("status", 1).out
    assert "batcher worker --tier custom   (no worker serves tier custom)" in told
    assert "no process is running it" not in told
    following.wait_for("No worker serves tier premium. Start one with: batcher worker --tier premium")
    assert narrow.stop() == 0

    pinned = fleet.worker("--tier", "custom")
    fleet.wait_for_state(1, JobState.DONE)
    assert fleet.done(1) == 3
    assert pinned.stop() == 0

    # What is on a tier that the catalogue has dropped is told, and keeps nobody else from being rung.
    every = fleet.worker("--beat")
    assert following.process.wait(30) == 0
    fleet.batcher("submit", "gone.jsonl", *CARDS, "--model", ON_NO_TIER, "--max-cost", "0.0000001", code=4)
    gone = fleet.job_of("gone.jsonl")
    with fleet.store.write() as connection:
        connection.execute(update(items).where(items.c.job_id == gone).values(tier="dropped"))
    fleet.batcher("budget", "set", "--job", gone, "--max-cost", "none")
    resumed = fleet.start("resume", gone, name="resumed")
    resumed.wait_for("WARNING Documents wait on dropped, and there is no such tier any more")
    every.wait_for("Documents wait on dropped, and there is no such tier any more")
    assert "no worker serves tier dropped, which is not under [tiers]" in fleet.batcher("status", gone).out
    assert "cannot be reached" not in resumed.log + every.log
    fleet.batcher("submit", "later.jsonl", *CARDS, "--model", ON_NO_TIER)
    assert fleet.done(fleet.job_of("later.jsonl")) == 3
    fleet.batcher("cancel", gone)
    wait_until(lambda: resumed.process.poll() is not None)
    assert every.stop() == 0
