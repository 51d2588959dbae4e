"""The price told before a run is what leasing the items will reserve."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from batcher.catalog.models import Catalog, load_catalog
from batcher.documents.records import document_of_text
from batcher.engine.lane import LaneFactory
from batcher.planning.admission import result_key
from batcher.planning.pricing import price_left
from batcher.providers.base import Provider
from batcher.providers.factory import build_provider
from batcher.settings import Settings
from batcher.store.database import Store
from batcher.store.ingestion import NewItem, add_items
from batcher.store.jobs import Job, NewJob, create_job
from batcher.store.leases import next_items
from batcher.store.schema import ensure_schema
from batcher.tasks import Task, scorers


class Answer(BaseModel):
    title: str = Field(max_length=80, description="A title")


TASK = Task(
    name="cards",
    version=1,
    prompt="Make a card.",
    output=Answer,
    scorer=scorers.exact,
    long_documents="merge",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('pricing') / 'batcher.db'}")
    ensure_schema(store)
    return store


def _catalog(practical_context: int) -> Catalog:
    catalog = load_catalog(Settings.model_construct())
    model = dataclasses.replace(catalog.model("gpt-4o-mini"), practical_context=practical_context)
    return dataclasses.replace(
        catalog,
        models={**catalog.models, model.name: model},
        tiers={**catalog.tiers, "economy": (model.name,)},
    )


def _job(store: Store, texts: list[str]) -> Job:
    spec = TASK.spec()
    new = NewJob(
        corpus_key=b"k" * 20, task="cards", paths=("docs",), source_options="{}", spec=spec.to_json(),
        tier="economy", pinned_model=None, ladder=("economy",), accepts=("gpt-4o-mini",), refresh=False,
        max_cost_nusd=None,
    )  # fmt: skip
    documents = [document_of_text(text) for text in texts]
    with store.write() as connection:
        job = create_job(connection, new, 0.0)
        batch = [
            NewItem(f"{number}.txt", document, result_key(spec, document) + bytes([job.id % 256, number]))
            for number, document in enumerate(documents)
        ]
        add_items(connection, job, batch)
    return job


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
    practical_context=st.integers(400, 5_000),
)
def test_the_worst_case_is_what_leasing_reserves(
    store: Store, sizes: list[int], practical_context: int
) -> None:
    catalog = _catalog(practical_context)
    job = _job(store, ["x" * size for size in sizes])

    def provider(name: str) -> Provider:
        return build_provider(catalog.providers[name], "sk-none", None, max_connections=1)

    lane = LaneFactory(catalog, provider, str, lambda _: True, lambda _: TASK, 10.0).lane(job, "economy")
    with store.write() as connection:
        price = price_left(connection, job, catalog, lambda _: True)
        reserved = sum(
            lane.first.item_reservation_nusd(item)
            for item in next_items(connection, job.id, "economy", 1.0, 100)
        )
    assert price.items == len(sizes)
    assert price.calls >= price.items
    # Each reservation is rounded up by itself.
    assert 0 <= reserved - price.first_nusd <= len(sizes)
    assert 0 < price.likely_nusd <= price.first_nusd <= price.worst_nusd // 2


def test_nothing_pending_costs_nothing(store: Store) -> None:
    job = _job(store, [])
    with store.read() as connection:
        price = price_left(connection, job, _catalog(1000), lambda _: True)
    assert (price.items, price.calls, price.worst_nusd, price.likely_nusd) == (0, 0, 0, 0)


def test_a_tier_without_a_model_is_left_out(store: Store) -> None:
    job = _job(store, ["a text"])
    with store.read() as connection:
        assert price_left(connection, job, _catalog(1000), lambda _: False).items == 0
