"""What a request turns into before the corpus is read, and when two requests are the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batcher.budget.ledger import Ledger
from batcher.catalog.models import Catalog, Model, load_catalog
from batcher.domain import ItemStatus, JobState
from batcher.engine.submission import submit, take_up
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.order import NoUsableModelError, Order, SubmitRequest, check_request, corpus_key
from batcher.settings import Settings
from batcher.store.database import Store
from batcher.store.item_counts import count_items
from batcher.store.job_items import retry_failed, wake_pending
from batcher.store.jobs import get_job, list_jobs, set_pause_reason, set_state
from batcher.store.schema import ensure_schema
from batcher.store.tables import items

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Answer(BaseModel):
    title: str

task = Task(name="cards", version=1, prompt="Card.", output=Answer, scorer=scorers.exact,
            tier="economy", ladder=("economy", "standard", "premium"))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "docs").mkdir()
    for number in range(3):
        (tmp_path / "docs" / f"{number}.txt").write_text(f"Text {number} about rivers.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'batcher.db'}")
    ensure_schema(store)
    return store


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(Settings.model_construct())


def by_provider(*providers: str) -> Callable[[Model], bool]:
    return lambda model: model.provider in providers


def request(**given: Any) -> SubmitRequest:
    return SubmitRequest(**{"paths": ("docs",), "task": "./task.py", **given})


def check(catalog: Catalog, *providers: str, **given: Any) -> Order:
    return check_request(request(**given), catalog, by_provider(*providers))


def take_in(store: Store, order: Order) -> Any:
    return submit(store, Ledger(store, "UTC"), order, max_file_bytes=1_000_000)


def test_rungs_without_a_key_are_dropped_and_their_answers_still_count(
    folder: Path, catalog: Catalog
) -> None:
    order = check(catalog, "together", "anthropic")
    assert order.model.name == "llama-3.3-70b@together"
    assert order.ladder == ("economy", "standard", "premium")
    order = check(catalog, "together")
    assert order.ladder == ("economy",)
    assert order.dropped_rungs == ("standard", "premium")
    rungs = ("economy", "standard", "premium")
    assert order.accepts == tuple(name for rung in rungs for name in catalog.tiers[rung])


def test_images_start_where_a_model_sees(folder: Path, catalog: Catalog) -> None:
    assert check(catalog, "together").image_tier is None
    assert check(catalog, "together", "anthropic").image_tier == "standard"
    assert check(catalog, "openai").image_tier == "economy"
    assert check(catalog, "openai", model="gpt-4o").image_tier == "premium"


def test_a_tier_may_be_named_and_the_ladder_begins_there(folder: Path, catalog: Catalog) -> None:
    order = check(catalog, "openai", tier="standard")
    assert (order.tier, order.ladder) == ("standard", ("standard", "premium"))
    assert catalog.tiers["economy"][0] not in order.accepts
    assert check(catalog, "local", tier="local").ladder == ("local",)


def test_a_pinned_model_climbs_nowhere(folder: Path, catalog: Catalog) -> None:
    order = check(catalog, "openai", model="gpt-4.1-mini")
    assert (order.tier, order.ladder, order.accepts) == ("standard", ("standard",), ("gpt-4.1-mini",))
    assert order.dropped_rungs == ()
    assert check(catalog, "anthropic", model="claude-opus-5-5").tier == "custom"
    with pytest.raises(UsageError, match="not on tier local"):
        check(catalog, "openai", model="gpt-4.1-mini", tier="local")


def test_no_usable_model_is_an_offer_only_where_nothing_was_named(folder: Path, catalog: Catalog) -> None:
    with pytest.raises(NoUsableModelError, match="TOGETHER_API_KEY or OPENAI_API_KEY"):
        check(catalog)
    for given in ({"tier": "premium"}, {"model": "gpt-4o"}):
        with pytest.raises(ConfigurationError) as caught:
            check(catalog, **given)
        assert not isinstance(caught.value, NoUsableModelError)


def test_keys_tell_requests_apart(folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = corpus_key(check(catalog, "openai"))
    assert corpus_key(check(catalog, "openai", max_cost_nusd=5)) == plain
    assert corpus_key(check(catalog, "openai", paths=("docs/../docs/",))) == plain
    others = [
        check(catalog, "openai", **given)
        for given in (
            {"tier": "standard"},
            {"model": "gpt-4o-mini"},
            {"limit": 2},
            {"refresh": True},
            {"text_column": "x"},
            {"id_column": "x"},
            {"paths": ("docs", "task.py")},
            {"paths": ("docs/*.txt",)},
        )
    ]
    keys = {corpus_key(order) for order in others}
    assert len(keys) == len(others)
    assert plain not in keys
    stdin = check(catalog, "openai", paths=("-",))
    assert corpus_key(stdin) != corpus_key(stdin)
    both = {
        corpus_key(check(catalog, "openai", paths=paths))
        for paths in (("docs", "task.py"), ("task.py", "docs"))
    }
    assert len(both) == 1
    monkeypatch.chdir("docs")
    assert corpus_key(check(catalog, "openai", paths=("../docs",), task="../task.py")) == plain


def test_an_unfinished_job_is_taken_up_with_its_own_sources(
    folder: Path, catalog: Catalog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take_in(store, check(catalog, "openai"))
    assert not first.taken_up
    with store.write() as connection:
        set_state(connection, first.job.id, JobState.PAUSED, 1.0, reason="budget: x", resume_at=9.9)
    (folder / "docs" / "new.txt").write_text("Another text.")
    monkeypatch.chdir("docs")
    again = take_in(store, check(catalog, "openai", paths=("../docs",), task="../task.py"))
    assert again.taken_up
    with store.read() as connection:
        job = get_job(connection, first.job.id)
        sources = connection.execute(items.select().order_by(items.c.id)).scalars("source").all()
        assert len(list_jobs(connection)) == 1
    assert sources == ["docs/0.txt", "docs/1.txt", "docs/2.txt", "docs/new.txt"]
    assert (job.state, job.reason, job.resume_at) == (JobState.RUNNING, None, None)
    assert Path.cwd() == folder / "docs"


def test_a_finished_job_is_not_taken_up(folder: Path, catalog: Catalog, store: Store) -> None:
    first = take_in(store, check(catalog, "openai"))
    with store.write() as connection:
        set_state(connection, first.job.id, JobState.DONE, 1.0)
    assert take_in(store, check(catalog, "openai")).job.id == first.job.id + 1


def test_a_folder_that_is_gone_is_told(folder: Path, catalog: Catalog, store: Store) -> None:
    order = check(catalog, "openai")
    job = take_in(store, order).job
    with store.write() as connection:
        connection.exec_driver_sql('UPDATE jobs SET source_options = \'{"folder": "/no/such/folder"}\'')
    with pytest.raises(UsageError, match="/no/such/folder"):
        take_in(store, order)
    with store.read() as connection:
        paused = get_job(connection, job.id)
    assert paused.state is JobState.PAUSED
    assert "/no/such/folder" in (paused.reason or "")


def test_an_empty_corpus_makes_no_job(folder: Path, catalog: Catalog, store: Store) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="no documents in empty"):
        take_in(store, check(catalog, "openai", paths=("empty",)))
    with store.read() as connection:
        assert list_jobs(connection) == []


def test_taking_up_wakes_items_that_were_put_off(folder: Path, catalog: Catalog, store: Store) -> None:
    job = take_in(store, check(catalog, "openai")).job
    with store.write() as connection:
        connection.execute(items.update().values(ready_at=1e12))
        set_state(connection, job.id, JobState.PAUSED, 1.0)
    assert take_up(store, Ledger(store, "UTC"), job.id, JobState.RUNNING).state is JobState.RUNNING
    with store.write() as connection:
        assert wake_pending(connection, job.id) == 0
        set_state(connection, job.id, JobState.CANCELLED, 1.0)
    with pytest.raises(UsageError, match="cancelled"):
        take_up(store, Ledger(store, "UTC"), job.id, JobState.RUNNING)


def test_a_pause_can_be_given_another_reason(folder: Path, catalog: Catalog, store: Store) -> None:
    job = take_in(store, check(catalog, "openai")).job
    with store.write() as connection:
        assert not set_pause_reason(connection, job.id, "paused by user")
        set_state(connection, job.id, JobState.PAUSED, 1.0, reason="budget", resume_at=5.0)
        assert set_pause_reason(connection, job.id, "paused by user")
        found = get_job(connection, job.id)
    assert (found.reason, found.resume_at) == ("paused by user", None)


def test_retried_images_start_where_a_model_sees(folder: Path, catalog: Catalog, store: Store) -> None:
    # A PNG of one black pixel.
    (folder / "docs" / "picture.png").write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
            "0000000c4944415408d763606060000000040001f61738550000000049454e44ae426082"
        )
    )
    order = dataclasses.replace(check(catalog, "openai"), image_tier="standard")
    job = take_in(store, order).job
    with store.write() as connection:
        connection.execute(
            items.update().values(status=ItemStatus.FAILED.value, tier="premium", error_class="refused")
        )
        assert retry_failed(connection, job.id, "truncated", "economy", "standard") == 0
        assert retry_failed(connection, job.id, "refused", "economy", "standard") == 4
        assert count_items(connection, job.id)[ItemStatus.PENDING] == 4
        rows = connection.execute(items.select().order_by(items.c.source)).all()
    assert [row.tier for row in rows] == ["economy", "economy", "economy", "standard"]
