"""Who may do a routed job's work, what documents cost on each, and what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batcher.catalog.loading import build_catalog
from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place, Privacy
from batcher.cli.routing_view import _saving
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.choice import only_allowed
from batcher.planning.order import Order, SubmitRequest, accepted_models
from batcher.planning.routed_saving import RoutedSaving, routed_saving
from batcher.planning.routing import Router, is_routed
from batcher.routing.wish import RouteWish
from batcher.settings import ModelSettings, ProviderSettings, RoutingSettings, Settings
from batcher.store.tallies import Tally
from batcher.tasks import Task
from batcher.tasks.scorers import exact

OWN, CHEAP, STATED, TINY = "own", "cheap", "stated", "tiny"


class Answer(BaseModel):
    label: str


TASK = Task(
    name="sort",
    version=1,
    prompt="Sort it.",
    output=Answer,
    scorer=exact,
    floor=0.85,
    tier="premium",
    ladder=("economy", "premium"),
    max_output_tokens=100,
)


def model(**fields: Any) -> ModelSettings:
    given = {"provider": "openai", "id": "m", "input": 1, "output": 1, "context": 32_000, "max_output": 4_000}
    return ModelSettings(**{**given, "abilities": ["schema"], "rpm": 10, "tpm": 10_000, **fields})


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return build_catalog(
        Settings.model_construct(
            providers={"gpu": ProviderSettings(base_url="http://gpu1:8000/v1", api_key_env="")},
            models={
                OWN: model(provider="gpu", id="own-1", input=0, output=0),
                CHEAP: model(id="cheap-1", input=0.5, output=0.5),
                STATED: model(id="stated-1", input=5, output=5),
                TINY: model(id="tiny-1", input=0.1, output=0.1, context=200, max_output=150),
            },
            tiers={"economy": [CHEAP, OWN, TINY], "premium": [STATED]},
            local_models={},
        )
    )


def place_of(model: Model) -> Place:
    return Place.NETWORK if model.provider == "gpu" else Place.VENDOR


def order(catalog: Catalog, *, task: Task = TASK, tier: str = "premium", pinned: str | None = None) -> Order:
    spec = task.spec({}, tier=tier)
    chosen = pinned or catalog.tiers[tier][0]
    return Order(
        request=SubmitRequest(paths=("docs",), task="sort"),
        task=task,
        spec=spec,
        tier=tier,
        pinned_model=pinned,
        ladder=spec.ladder,
        accepts=accepted_models(catalog, spec.ladder, pinned),
        image_tier=None,
        golden=None,
        dropped_rungs=(),
        model=catalog.models[chosen],
    )


def routed(catalog: Catalog, without_key: Sequence[str] = (), **wish: Any) -> Order:
    router = Router(catalog, lambda found: found.name not in without_key, place_of, RoutingSettings())
    asked = RouteWish(**wish)
    tier = "economy" if asked.privacy in {Privacy.STRICT, Privacy.AIR_GAPPED} else "premium"
    return router.first(None, order(catalog, tier=tier), asked, 100.0)


def test_documents_wait_on_the_cheapest_rung_and_the_stated_model_does_the_work(catalog: Catalog) -> None:
    found = routed(catalog, floor=0.8)
    assert found.routing is not None
    assert (found.queue, found.tier, found.model.name) == ("economy", "premium", STATED)
    assert (found.spec.tier, found.spec.floor, found.ladder) == ("economy", 0.8, ("economy", "premium"))
    assert set(found.accepts) == {OWN, CHEAP, STATED, TINY}
    assert [one.model for one in found.routing.candidates] == [OWN, CHEAP, STATED]
    assert found.routing.moves[0].at == 100.0
    assert found.routing.learning is None, "nobody says whether its answers are right"


def test_without_a_floor_of_its_own_the_task_s_counts(catalog: Catalog) -> None:
    assert routed(catalog).spec.floor == 0.85


def test_a_cost_is_that_of_a_usual_document(catalog: Catalog) -> None:
    routing = routed(catalog, floor=0.8).routing
    assert routing is not None
    cheap, stated = routing.candidate(CHEAP), routing.candidate(STATED)
    assert cheap is not None
    assert stated is not None
    assert stated.cost_nusd == pytest.approx(10 * cheap.cost_nusd)
    assert 300_000 < cheap.cost_nusd < 800_000  # about 1,000 tokens of text, at $0.5 per million


def test_who_may_not_do_the_work_and_why(catalog: Catalog) -> None:
    routing = routed(catalog, without_key=[CHEAP], floor=0.8).routing
    assert routing is not None
    why = {one.model: one.reason for one in routing.excluded}
    assert why[CHEAP] == "it has no key"
    assert "do not fit its" in why[TINY] or why[TINY] == "the instructions fill its context"


def test_private_documents_stay_on_own_machines(catalog: Catalog) -> None:
    found = routed(catalog, floor=0.8, privacy=Privacy.STRICT)
    assert found.routing is not None
    assert [one.model for one in found.routing.candidates] == [OWN]
    assert found.ladder == ("economy",)
    assert {one.model: one.reason for one in found.routing.excluded}[CHEAP] == (
        "it answers at a vendor, and privacy is strict"
    )
    usable = only_allowed(lambda _: True, place_of, Privacy.AIR_GAPPED)
    assert [name for name in (OWN, CHEAP) if usable(catalog.models[name])] == [OWN]


def test_slow_models_are_left_out(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match=r"a call takes about .* s, and 0.001 s are allowed"):
        routed(catalog, floor=0.8, max_latency_s=0.001)
    assert len(routed(catalog, floor=0.8, max_latency_s=1_000).routing.candidates) == 3  # type: ignore[union-attr]


def test_a_tier_off_the_ladder_stands_for_itself(catalog: Catalog) -> None:
    short = replace(TASK, ladder=("premium",))
    router = Router(catalog, lambda _: True, place_of, RoutingSettings())
    found = router.first(None, order(catalog, task=short, tier="economy"), RouteWish(floor=0.8), 0.0)
    assert (found.queue, found.ladder) == ("economy", ("economy",))


@pytest.mark.parametrize(
    ("route", "by_settings", "floor", "is_so"),
    [
        (False, False, None, False),
        (True, False, None, True),
        (False, True, None, True),
        (False, False, 0.9, True),
    ],
)
def test_what_turns_routing_on(
    catalog: Catalog, route: bool, by_settings: bool, floor: float | None, is_so: bool
) -> None:
    asked = order(catalog, task=replace(TASK, route=route))
    assert is_routed(asked, RouteWish(floor=floor), RoutingSettings(route=by_settings)) is is_so


def test_a_pinned_model_is_never_routed(catalog: Catalog) -> None:
    pinned = order(catalog, pinned=STATED)
    assert not is_routed(pinned, RouteWish(), RoutingSettings(route=True))
    with pytest.raises(UsageError, match="leave --model out"):
        is_routed(pinned, RouteWish(floor=0.8), RoutingSettings())


@pytest.mark.parametrize("wish", [RouteWish(privacy=Privacy.STRICT), RouteWish(max_latency_s=2)])
def test_limits_without_a_floor_are_refused(catalog: Catalog, wish: RouteWish) -> None:
    with pytest.raises(UsageError, match="give --floor"):
        is_routed(order(catalog), wish, RoutingSettings())


def test_the_saving_is_the_measured_tokens_at_the_other_price(catalog: Catalog) -> None:
    tallies = {
        ("economy", CHEAP): Tally(
            calls=110, input_tokens=110_000, output_tokens=11_000, cost_nusd=60_500_000, answered=100
        ),
        ("premium", STATED): Tally(
            calls=10, input_tokens=10_000, output_tokens=1_000, cost_nusd=55_000_000, answered=10
        ),
        ("economy", OWN): Tally(),
    }
    found = routed_saving(tallies, catalog.models[STATED], paid_nusd=115_500_000)
    assert found.instead_nusd == 110 * 1_100 * 5_000  # each answer one average call
    assert found.saved_nusd == found.instead_nusd - 115_500_000
    assert (found.judging_nusd, found.unknown_nusd) == (0, 0)
    dear = routed_saving(
        tallies, catalog.models[STATED], paid_nusd=115_500_000 + 600_000_000, unknown_nusd=570_000_000
    )
    assert (dear.paid_nusd, dear.judging_nusd, dear.unknown_nusd) == (715_500_000, 30_000_000, 570_000_000)
    assert dear.saved_nusd == 605_000_000 - 715_500_000


def test_what_was_saved_is_told_with_all_that_was_paid_or_that_it_was_nothing() -> None:
    assert _saving(None) == ""
    assert _saving(RoutedSaving("sonnet", 0, 0)) == "", "nothing is answered yet"
    assert _saving(RoutedSaving("sonnet", 1_470_000_000, 1_000_000_000, judging_nusd=130_000_000)) == (
        "$0.47 (32 %): at the prices of sonnet these answers would have cost $1.47, and $1.00 was paid"
        " ($0.13 of it for judging)"
    )
    assert _saving(RoutedSaving("sonnet", 1_470_000_000, 2_100_000_000, 130_000_000, 570_000_000)) == (
        "nothing: at the prices of sonnet these answers would have cost $1.47, and $2.10 was paid"
        " ($0.13 of it for judging, $0.57 of it for calls whose outcome is not known)"
    )


def test_the_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from batcher.settings import load_settings

    (tmp_path / "batcher.toml").write_text("[routing]\nroute = true\nlearning_share = 0.1\n")
    monkeypatch.chdir(tmp_path)
    routing = load_settings(home=tmp_path).routing
    assert (routing.route, routing.learning_share, routing.alpha, routing.look_every) == (True, 0.1, 0.05, 10)
