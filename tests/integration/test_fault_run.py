"""A fifth of all calls goes wrong, in every way at once: every item ends right and the books agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.simulator.faults import CLASSES, KINDS
from benchmarks.fault_run import FAULTS, FaultRun, Vendor, fault_script, texts
from tests.support.vendor_server import VendorProcess

WAIT_S = 0.1
FINAL = {"bad_request", "refused", "invalid_output", "truncated", "too_long"}


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    """A simulator in a process of its own, so that killing workers does not hurt it."""
    with VendorProcess(latency_s=0.02) as process:
        vendor = Vendor(process.root_url)
        vendor.ask("POST", "/_faults", fault_script(0.2, WAIT_S))
        yield vendor


def test_the_script_has_every_kind_of_fault() -> None:
    assert set(FAULTS) | {way for ways in CLASSES.values() for way in ways} == KINDS


@pytest.mark.parametrize("path", ["openai", "anthropic", "together"])
def test_every_item_ends_right_and_the_books_agree(path: str, vendor: Vendor, tmp_path: Path) -> None:
    run = FaultRun(tmp_path / "home", vendor, path, WAIT_S)
    job = run.submit(texts(400))
    run.run(job.id)
    books = run.books(job.id)
    assert books.faults() == []
    statuses = Counter((item.status, item.error_class) for item in books.items)
    assert statuses["done", None] > 360
    assert {failure for status, failure in statuses if status == "failed"} <= FINAL
    assert set(books.outcomes()) >= {
        "ok",
        "rate_limited",
        "overloaded",
        "transient",
        "unknown_outcome",
        "account",
    }
    assert books.spent_nusd > books.billed_nusd, "what may have been billed stays booked"


def test_after_two_kills_the_books_agree_and_a_retry_of_each_class_brings_the_rest(
    vendor: Vendor, tmp_path: Path
) -> None:
    run = FaultRun(tmp_path / "home", vendor, "openai", WAIT_S)
    job = run.submit(texts(400))
    for calls in (60, 90):
        run.kill_in_between(job.id, calls)
    run.run(job.id)
    books = run.books(job.id)
    assert books.faults() == []
    assert any(row.state == "unknown" and row.latency_s is None for row in books.attempts), (
        "the kills cut calls off"
    )
    failed = Counter(item.error_class for item in books.items if item.status == "failed")
    assert failed.keys() >= {"bad_request", "refused"}
    vendor.ask("DELETE", "/_faults")
    for number, failure in enumerate(failed, start=1):
        exit_code = run.retry(job.id, failure)
        assert exit_code == (0 if number == len(failed) else 1), "1 while others have failed"
    books = run.books(job.id)
    assert books.faults() == []
    assert {item.status for item in books.items} == {"done"}
