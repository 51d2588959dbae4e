"""Rehearsals: the ledger agrees with the vendor's bill, time with the limits, and every item ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.budget.ledger import Ledger
from batcher.catalog.models import load_catalog
from batcher.dispatch.rehearsal import DAILY_CAP, Rehearsal
from batcher.dispatch.rehearsal_books import Books, open_real_store, read_books
from batcher.dispatch.rehearsal_report import RehearsalReport, read_report
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import Ending
from batcher.errors import DependencyError
from batcher.runtime import Runtime
from batcher.settings import ModelSettings, Settings
from tests.support.runs import MODEL, make_job

DAY_S = 86_400.0
NOON = 20_000 * DAY_S + DAY_S / 2
CAP_NUSD = 5 * 10**9


@contextmanager
def rehearsal(
    *,
    model: str = MODEL,
    limits: dict[str, int] | None = None,
    faults: list[dict[str, Any]] | None = None,
    **books: Any,
) -> Iterator[Rehearsal]:
    given_limits = {"rpm": 1_000_000, "tpm": 1_000_000_000, **(limits or {})}
    used = Settings(home=Path("unused"), models={model: ModelSettings(**given_limits)})
    real = Books(**{"now": NOON, "cap_nusd": CAP_NUSD, "taken_nusd": 0, **books})
    with Rehearsal(used, load_catalog(used), real, lambda _: True, faults=faults or ()) as made:
        made.catalog = load_catalog(used)  # type: ignore[attr-defined] - what make_job asks a runtime for
        yield made


def texts(count: int) -> dict[str, str]:
    return {f"d{number}": f"Document {number} is about rivers and bridges." for number in range(count)}


def rehearse(made: Rehearsal, count: int, **job: Any) -> tuple[Ending, RehearsalReport]:
    stored = make_job(made, texts(count), **job)  # type: ignore[arg-type]
    ending = made.run(stored.id)
    return ending, read_report(made, stored.id)


@settings(max_examples=8, deadline=None)
@given(
    count=st.integers(1, 60),
    rpm=st.integers(20, 3_000),
    rates=st.tuples(*[st.floats(0, 0.12)] * 4),
)
def test_whatever_goes_wrong_items_end_and_the_ledger_is_never_below_the_bill(
    count: int, rpm: int, rates: tuple[float, ...]
) -> None:
    kinds = ("rate_limited", "transient", "unknown_outcome", "invalid_output")
    faults = [{"kind": kind, "rate": rate} for kind, rate in zip(kinds, rates, strict=True)]
    with rehearsal(limits={"rpm": rpm}, faults=faults) as made:
        ending, report = rehearse(made, count)
        bill = made.simulator.bill.totals()
    assert (ending, report.state) == (Ending.IDLE, JobState.DONE)
    assert report.items[ItemStatus.DONE] + report.items[ItemStatus.FAILED] == count
    assert sum(report.calls.values()) == bill["calls"] == bill["finished"]
    assert report.statuses.get(429, 0) == bill["statuses"].get("429", 0)
    assert report.cost_nusd >= bill["cost_nusd"]
    assert bill["calls"] <= rpm * (report.seconds / 60 + 1) + 1
    if not any(rates):
        assert report.cost_nusd == bill["cost_nusd"]


def test_without_faults_the_cost_is_the_bill_to_the_nano_dollar() -> None:
    with rehearsal() as made:
        _, report = rehearse(made, 30)
        bill = made.simulator.bill.totals()
    assert report.cost_nusd == bill["cost_nusd"] > 0
    assert (report.spend.input_tokens, report.spend.output_tokens) == (
        bill["input_tokens"],
        bill["output_tokens"],
    )
    assert report.calls == {"ok": 30}
    assert report.statuses == {}


def test_a_limit_sets_the_time_and_is_named() -> None:
    with rehearsal(limits={"rpm": 60}) as made:
        _, report = rehearse(made, 120)
    assert report.seconds == pytest.approx(120, rel=0.1)
    assert report.binding_limit == "rate limit: 60 requests/min"
    assert report.waits["rate limit: 60 requests/min"] == pytest.approx(report.seconds, rel=0.1)
    assert report.documents_per_min == pytest.approx(60, rel=0.1)


@pytest.mark.parametrize(
    ("limit", "per_document", "named"),
    [("itpm", "input_tokens", "input tokens/min"), ("otpm", "output_tokens", "output tokens/min")],
)
def test_limits_of_input_and_output_apart_hold_on_both_sides(
    limit: str, per_document: str, named: str
) -> None:
    claude = "claude-haiku-4-5"
    with rehearsal(model=claude) as made:
        _, free = rehearse(made, 300, model=claude)
    a_minute = getattr(free.spend, per_document) // 5
    with rehearsal(model=claude, limits={limit: a_minute}) as made:
        told = made.simulator.limits.of("anthropic", made.catalog.models[claude].id)  # type: ignore[attr-defined]
        _, report = rehearse(made, 300, model=claude)
    assert {"itpm": told.input_tpm, "otpm": told.output_tpm}[limit] == a_minute
    assert report.seconds > 200
    assert report.binding_limit == f"rate limit: {a_minute:,} {named}"
    assert report.statuses.get(429, 0) <= 3


def test_slots_are_named_where_nothing_else_limits() -> None:
    with rehearsal(limits={"concurrency": 2}) as made:
        _, report = rehearse(made, 60)
    assert report.binding_limit == "calls in flight"


def test_a_cap_that_is_used_up_waits_for_midnight_and_counts_what_was_spent_before() -> None:
    with rehearsal() as made:
        _, whole = rehearse(made, 40)
    cap = whole.cost_nusd // 3
    with rehearsal(cap_nusd=cap, taken_nusd=cap // 2) as made:
        ending, report = rehearse(made, 40)
    assert (ending, report.state, report.items[ItemStatus.DONE]) == (Ending.IDLE, JobState.DONE, 40)
    assert len(report.days) >= 4
    assert [day.taken_nusd for day in report.days] == [cap // 2] + [0] * (len(report.days) - 1)
    assert all(day.taken_nusd + day.spent_nusd <= cap for day in report.days)
    assert sum(day.spent_nusd for day in report.days) == report.cost_nusd == whole.cost_nusd
    assert report.seconds == pytest.approx((len(report.days) - 1.5) * DAY_S, abs=60)
    assert report.binding_limit == DAILY_CAP
    assert report.working_s < 60


def test_a_cap_that_admits_no_call_ends_the_rehearsal() -> None:
    with rehearsal(cap_nusd=10) as made:
        ending, report = rehearse(made, 3)
    assert (ending, report.state) == (Ending.BUDGET, JobState.PAUSED)
    assert report.items[ItemStatus.PENDING] == 3
    assert report.reason is not None
    assert "daily cap" in report.reason


def test_a_jobs_own_cap_ends_it_on_the_same_day() -> None:
    with rehearsal() as made:
        ending, report = rehearse(made, 3, max_cost_nusd=10)
    assert (ending, report.seconds < 60) == (Ending.BUDGET, True)


def test_models_that_enforce_no_schema_answer_by_it_all_the_same() -> None:
    with rehearsal() as made:
        _, report = rehearse(made, 5, model="llama-3.3-70b@groq")
    assert report.calls == {"ok": 5}
    assert report.models == {"llama-3.3-70b@groq": 5}


def test_nothing_is_left_of_it() -> None:
    before = set(Path(tempfile.gettempdir()).glob("batcher-rehearsal-*"))
    with rehearsal() as made:
        [folder] = set(Path(tempfile.gettempdir()).glob("batcher-rehearsal-*")) - before
        rehearse(made, 2)
        assert list(folder.iterdir())
    assert not folder.exists()


def test_the_real_store_is_opened_for_reading_alone(tmp_path: Path) -> None:
    used = Settings(home=tmp_path / "a folder #1")
    assert open_real_store(used) is None
    assert not used.home.exists()
    assert read_books(None, "UTC").cap_nusd == CAP_NUSD
    runtime = Runtime(used)
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, 7)
    runtime.store.close()
    before = (used.home / "batcher.db").read_bytes()
    real = open_real_store(used)
    assert real is not None
    books = read_books(real, "UTC")
    assert (books.cap_nusd, books.taken_nusd) == (7, 0)
    with pytest.raises(DependencyError, match="readonly"), real.write() as connection:
        Ledger(real, "UTC").set_daily_cap(connection, 8)
    real.close()
    assert (used.home / "batcher.db").read_bytes() == before
