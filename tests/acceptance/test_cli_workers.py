"""``submit`` and its kin where workers do the work: they enqueue, follow, and leave."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from batcher.domain import JobState
from tests.support.fleet import Fleet, new_fleet, wait_until
from tests.support.vendor_server import VendorProcess

CARDS = ("--task", "./cards")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    """One worker, four calls at a time, with the schedule."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url) as made:
        made.worker("--tier", "economy", "--beat")
        yield made


@pytest.fixture(autouse=True)
def _fast(vendor: VendorProcess) -> Iterator[None]:
    vendor.configure(latency_s=0.0)
    vendor.clear_faults()
    yield
    vendor.configure(latency_s=0.0)


def test_submit_follows_what_the_workers_do_and_exits_with_its_outcome(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    fleet.documents("docs", 12)
    outcome = fleet.batcher("submit", "docs", *CARDS, "--json").json
    assert (outcome["state"], outcome["done"], outcome["digest"]["done_in_run"]) == ("done", 12, 12)
    [worker] = fleet.batcher("workers", "--json").json
    assert worker["tiers"] == ["economy"]
    assert (worker["state"], worker["done"], worker["items"]) == ("serving", 12, 0)
    table = fleet.batcher("workers", "--here").out
    assert table.splitlines()[0].split() == [
        *("WORKER", "TIERS", "STATE", "UP", "ITEMS", "IN", "FLIGHT", "DONE", "FAILED", "WAITING", "FOR")
    ]
    assert worker["worker"] in table

    vendor.add_fault(status=400, contains="Row 2 of faulty", times=None)
    fleet.table("faulty", 4)
    faulty = fleet.batcher("submit", "faulty.jsonl", *CARDS, "--json", code=1).json
    assert faulty["failed_by_class"] == {"bad_request": 1}

    fleet.table("capped", 20)
    capped = fleet.batcher("submit", "capped.jsonl", *CARDS, "--max-cost", "0.0006", "--json", code=4).json
    assert capped["state"] == "paused"
    assert 0 < capped["done"] < 20
    assert fleet.nothing_reserved_nor_unknown()
    fleet.batcher("budget", "set", "--job", capped["job_id"], "--max-cost", "none")
    assert fleet.batcher("resume", capped["job_id"], "--json").json["done"] == 20


def test_ctrl_c_ends_the_following_and_the_same_command_follows_again(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    vendor.configure(latency_s=0.2)
    fleet.table("watched", 200)
    submitting = fleet.start("submit", "watched.jsonl", *CARDS, name="watched")
    submitting.wait_for("starts: ")
    job = fleet.job_of("watched.jsonl")
    wait_until(lambda: fleet.done(job) > 0)
    # While one watches, another start of the request is not refused, nor is a resume.
    again = fleet.start("submit", "watched.jsonl", *CARDS, name="again")
    again.wait_for(f"Taking up job {job}, which was running")
    again.wait_for("starts: ")
    assert submitting.stop(signal.SIGINT) == 130
    assert "workers go on with it" in submitting.log
    assert f"goes on   with the workers; watch it with batcher status {job} --watch" in submitting.log
    assert "interrupted" not in submitting.log
    assert digests(fleet, job) == [], "it is not over"
    assert fleet.job(job).state is JobState.RUNNING
    resumed = fleet.start("resume", job, name="resumed")
    resumed.wait_for("starts: ")
    vendor.configure(latency_s=0.0)
    assert again.process.wait(30) == 0
    assert resumed.process.wait(30) == 0
    assert fleet.done(job) == 200
    assert [title.split(",")[0] for title in digests(fleet, job)] == [f"Job {job} done: 200 of 200 done"]


def digests(fleet: Fleet, job: int) -> list[str]:
    """The titles of the digests that were sent of a job."""
    told = fleet.batcher("alerts", "list", "--all", "--json").json
    return [one["title"] for one in told if one["scope"].startswith(f"job:{job}/")]


def test_a_detached_corpus_is_read_in_the_background_under_the_requests_lock(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    fleet.table("large", 20_000)
    vendor.configure(latency_s=0.2)
    started = fleet.batcher("submit", "large.jsonl", *CARDS, "--detach", "--json")
    assert started.json["state"] == "ingesting"
    job = started.json["job_id"]
    wait_until(lambda: fleet.done(job) > 0)
    log = fleet.folder.parent / "home" / "logs" / f"ingest-{job}.log"
    if fleet.job(job).state is JobState.INGESTING:
        busy = fleet.batcher("submit", "large.jsonl", *CARDS, "--detach", code=None)
        if "is being run right now by process" not in busy.err:
            assert "read" in log.read_text(), "the reading had just ended"
    cancelled = fleet.batcher("cancel", job).err
    wait_until(lambda: "read" in log.read_text())
    if "not read any further" in log.read_text():
        assert "dropped so far: so is what is still read of its corpus" in cancelled
    assert re.search(rf"Job {job}(: 20,000 documents read| is cancelled)", log.read_text())
    wait_until(lambda: not {"leased", "pending"} & set(fleet.counts(job)))


def test_a_detached_corpus_that_cannot_be_read_pauses_its_job_with_the_reason(fleet: Fleet) -> None:
    fleet.table("odd", 3)
    started = fleet.batcher("submit", "odd.jsonl", *CARDS, "--text-column", "nope", "--detach", "--json")
    job = started.json["job_id"]
    fleet.wait_for_state(job, JobState.PAUSED)
    assert (fleet.job(job).reason or "").startswith("its corpus was not read to the end: ")
    assert "nope" in (fleet.job(job).reason or "")


def test_workers_do_not_start_before_the_price_is_agreed_to(fleet: Fleet, vendor: VendorProcess) -> None:
    fleet.table("asked", 8)
    vendor.clear_bill()
    refused = on_terminal(fleet, "n", "submit", "asked.jsonl", *CARDS)
    assert "Go on?" in refused
    assert "Nothing was spent" in refused
    job = fleet.job_of("asked.jsonl")
    assert (fleet.job(job).state, fleet.counts(job)) == (JobState.PAUSED, {"pending": 8})
    assert vendor.totals()["calls"] == 0
    assert "8" in on_terminal(fleet, "y", "submit", "asked.jsonl", *CARDS)
    assert fleet.counts(job) == {"done": 8}


def on_terminal(fleet: Fleet, answer: str, *words: str) -> str:
    """Run a command on a pseudo-terminal; answers its question only when workers had time to start."""
    ours, theirs = pty.openpty()
    env = fleet.env | {"TERM": "xterm-256color", "COLUMNS": "120", "BATCHER_CONFIRM_ABOVE_USD": "0"}
    process = subprocess.Popen(
        fleet.command(words), stdin=theirs, stdout=theirs, stderr=theirs, cwd=fleet.folder, env=env
    )
    os.close(theirs)
    screen = b""
    try:
        while part := os.read(ours, 65536):
            screen += part
            if b"Go on?" in part:
                time.sleep(3)  # an idle worker looks every two seconds
                os.write(ours, f"{answer}\n".encode())
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return screen.decode()


def test_without_a_broker_each_command_says_what_is_missing(fleet: Fleet) -> None:
    for words, code in ((("worker",), 3), (("workers",), 3), (("submit", "docs", *CARDS, "--detach"), 2)):
        outcome = fleet.batcher(*words, code=code, BATCHER_BROKER_URL="")
        assert "broker" in outcome.err.lower(), outcome
