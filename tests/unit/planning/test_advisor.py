"""Advice: the articles' rules on the models of the catalogue, limits, and measurements that go before."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from batcher.catalog.models import Catalog, Model, load_catalog
from batcher.catalog.privacy import Place, Privacy, place_of
from batcher.money import usd_to_nusd
from batcher.planning.advisor import Advice, Advisor, Recommendation, Standing
from batcher.planning.article_rules import PRESENT_MODELS, RULES, Need, TaskType
from batcher.planning.history import History, Measured, MeasuredAccuracy
from batcher.planning.monthly import Tokens, Volume
from batcher.routing.choice import LEAST_SCORED
from batcher.settings import ModelSettings, ProviderSettings, Settings
from batcher.statistics.intervals import wilson

CATALOG = load_catalog(Settings.model_construct())
USUAL = Tokens(1_500, 500)


def need(kind: str, per_day: int | None = None, **limits: Any) -> Need:
    volume = None if per_day is None else Volume(Fraction(per_day), "day")
    return Need(TaskType(kind), limits.pop("tokens", USUAL), volume, **limits)


def advise(asked: Need, history: History | None = None, catalog: Catalog = CATALOG) -> Advice:
    def place(model: Model) -> Place:
        return place_of(model, catalog.providers[model.provider])

    return Advisor(catalog, place, history or History()).advise(asked)


def names(advice: Advice) -> list[str]:
    return [found.model.name for found in advice.ranked]


def scored(correct: int, total: int) -> MeasuredAccuracy:
    return MeasuredAccuracy(correct, total, wilson(correct, total))


@pytest.mark.parametrize(
    ("asked", "first", "second"),
    [
        (need("extraction", schema=True), "gpt-4o", "gpt-6.1-sol"),
        (need("enrichment", 4_000, floor=0.80), "llama-3.1-70b@together", "llama-3.3-70b@together"),
        (need("enrichment", 4_000, floor=0.90), "claude-sonnet-5-5", "gpt-4o"),
        (need("enrichment", 2_000, floor=0.80), "claude-sonnet-5-5", "gpt-4o"),
        (need("enrichment", 4_000), "claude-sonnet-5-5", "gpt-4o"),
        (need("classification", 5_001), "gemini-2.5-flash-lite", "gpt-4o-mini"),
        (need("routing", 8_000), "gemini-2.5-flash-lite", "gpt-4o-mini"),
        (need("summarisation", 5_000), "gpt-4o-mini", "gemini-2.5-flash-lite"),
        (need("classification"), "gpt-4o-mini", "gemini-2.5-flash-lite"),
        (need("long-documents"), "claude-sonnet-5-5", "gemini-3.5-flash-lite"),
        (need("long-documents", context=300_000), "gemini-3.5-flash-lite", "claude-sonnet-5-5"),
        (need("code"), "claude-sonnet-5-5", "claude-sonnet-4-6"),
        (need("reasoning"), "claude-opus-5-5", "gpt-6.1-sol"),
        (need("default"), "claude-sonnet-5-5", "gpt-4o"),
        (need("default", max_latency_s=2), "gemini-2.5-flash-lite", "gpt-4o-mini"),
        (need("default", max_cost_nusd=usd_to_nusd("0.005")), "gpt-4o-mini", "gemini-2.5-flash-lite"),
        (need("enrichment", 4_000, floor=0.8, max_cost_nusd=usd_to_nusd("0.005")),
         "llama-3.1-70b@together", "llama-3.3-70b@together"),
    ],
)  # fmt: skip
def test_the_rules(asked: Need, first: str, second: str) -> None:
    advice = advise(asked)
    assert names(advice)[:2] == [first, second]
    assert {found.standing for found in advice.ranked[:2]} == {Standing.RULE}


def test_every_model_of_the_rules_is_in_the_catalogue() -> None:
    articles = {article for rule in RULES for article in rule.models}
    assert articles == set(PRESENT_MODELS)
    for present in PRESENT_MODELS.values():
        assert {found.model for found in present} <= CATALOG.models.keys()


def test_a_model_in_anothers_place_says_whose_and_why() -> None:
    mini, flash = advise(need("classification")).ranked[:2]
    assert mini.reasons == ("simple work, not more than 5,000 a day; the articles' choice is GPT-4o mini",)
    [told] = flash.reasons
    assert (
        "Gemini Flash, for which it stands: Flash-Lite at 2.0 Flash's own price; 2.0 Flash is retired" in told
    )


def test_a_model_that_is_gone_leaves_its_place_to_the_next() -> None:
    models = {name: model for name, model in CATALOG.models.items() if not name.startswith("gpt-4o")}
    catalog = dataclasses.replace(CATALOG, models=models)
    assert names(advise(need("extraction"), catalog=catalog))[0] == "gpt-6.1-sol"
    assert names(advise(need("routing"), catalog=catalog))[:2] == ["gemini-2.5-flash-lite", "gpt-6-luna"]


def test_what_no_rule_names_follows_own_machines_last() -> None:
    advice = advise(need("code"))
    others = [found for found in advice.ranked if found.standing is Standing.OTHER]
    assert len(advice.ranked) == len(CATALOG.models)
    assert "on tier premium" in others[0].reasons[0]
    assert [found.model.name for found in others[-2:]] == ["qwen2.5-coder-1.5b", "smollm2-135m"]
    assert others[-1].latency is None


@pytest.mark.parametrize(
    ("asked", "model", "reason"),
    [
        (need("code", schema=True), "llama-3.3-70b@groq", "enforces no schema"),
        (need("code", vision=True), "llama-3.3-70b@together", "sees no pictures"),
        (need("code", context=130_000), "gpt-4o", "context is 128,000"),
        (need("code", tokens=Tokens(10, 20_000)), "gpt-4o", "end at 16,384"),
        (need("code", max_cost_nusd=usd_to_nusd("0.005")), "gpt-4o", "$0.00875 a request, more than $0.005"),
        (need("code", privacy=Privacy.STRICT), "gpt-4o", "would go to OpenAI, USA"),
        (need("code", max_latency_s=0.25), "gpt-4o", "usually starts after 0.3 s, more than 0.25 s"),
    ],
)
def test_limits_leave_models_out_with_the_reason(asked: Need, model: str, reason: str) -> None:
    advice = advise(asked)
    assert reason in advice.left_out[model]
    assert model not in names(advice)
    assert len(advice.ranked) + len(advice.left_out) == len(CATALOG.models)


def test_a_usual_time_warns_and_a_measured_one_decides() -> None:
    asked = need("classification", max_latency_s=2)
    guessed = advise(asked).ranked[0]
    assert (guessed.model.name, len(guessed.cautions)) == ("gemini-2.5-flash-lite", 1)
    assert "usually takes 2.6 s" in guessed.cautions[0]
    measured = advise(asked, History(latencies_s={"gemini-2.5-flash-lite": 2.4, "gpt-4o-mini": 1.1}))
    assert "2.4 s, as measured" in measured.left_out["gemini-2.5-flash-lite"]
    best = measured.ranked[0]
    assert (best.model.name, best.cautions) == ("gpt-4o-mini", ())
    own = next(found for found in measured.ranked if found.place is Place.MACHINE)
    assert "was never measured" in own.cautions[0]


def test_cautions_tell_of_length_and_of_requests_a_day() -> None:
    advice = advise(need("long-documents", 5_000, context=90_000))
    by_name = {found.model.name: found for found in advice.ranked}
    assert "degrade past 60,000" in by_name["claude-sonnet-5-5"].cautions[0]
    assert by_name["gpt-4.1"].cautions == ()
    assert "1,000 requests a day" in by_name["llama-3.3-70b@groq"].cautions[1]


def own_catalog() -> Catalog:
    """With a Llama in one's own network, and a Mistral of one's own at a public address."""
    settings = Settings.model_construct(
        providers={
            "gpu": ProviderSettings(base_url="http://gpu1:8000/v1"),
            "cage": ProviderSettings(base_url="https://llm.example.com/v1", api_key_env="CAGE_KEY"),
        },
        models={
            "our-llama": ModelSettings(provider="gpu", id="Llama-3.3-70B", input=0, output=0, context=64_000),
            "phi": ModelSettings(provider="gpu", id="phi-4", input=0, output=0, context=64_000),
            "ministral": ModelSettings(
                provider="cage", id="x", input=0, output=0, context=64_000, data="your own machines"
            ),
        },
    )
    return load_catalog(settings)


def test_strict_stays_on_own_endpoints_llama_and_mistral_first() -> None:
    advice = advise(need("extraction", privacy=Privacy.STRICT, floor=0.8), catalog=own_catalog())
    assert names(advice)[:2] == ["our-llama", "ministral"]
    assert set(names(advice)) == {"our-llama", "ministral", "phi", "smollm2-135m", "qwen2.5-coder-1.5b"}
    assert "stay on your own machines" in advice.ranked[0].reasons[0]
    gapped = advise(need("extraction", privacy=Privacy.AIR_GAPPED), catalog=own_catalog())
    assert set(names(gapped)) == set(names(advice)) - {"ministral"}
    assert names(gapped)[0] == "our-llama"


def test_strict_without_an_own_llama_says_how_to_get_one() -> None:
    advice = advise(need("extraction", privacy=Privacy.STRICT))
    assert names(advice) == ["qwen2.5-coder-1.5b", "smollm2-135m"]
    assert any("[providers.NAME]" in note for note in advice.notes)


def standing_of(advice: Advice, name: str) -> Recommendation:
    return next(found for found in advice.ranked if found.model.name == name)


def test_measured_models_over_the_floor_go_before_every_rule() -> None:
    history = History(
        accuracies={
            "mistral-small-4": scored(190, 200),
            "gpt-4.1-mini": scored(195, 200),
            "claude-sonnet-5-5": scored(44, 50),
            "gpt-4o": scored(40, 50),
            "gpt-4o-mini": scored(20, 50),
            "claude-opus-5-5": scored(19, 19),
        }
    )
    advice = advise(need("code", floor=0.85), history)
    assert names(advice)[:3] == ["mistral-small-4", "gpt-4.1-mini", "claude-sonnet-5-5"]
    assert [found.standing for found in advice.ranked[:3]] == [
        Standing.PROVEN,
        Standing.PROVEN,
        Standing.LIKELY,
    ]
    best = advice.ranked[0]
    assert best.reasons[0].startswith("measured, which goes before any rule: accuracy 95.0 % (91.0 to 97.3 %")
    assert "200 scored" in best.reasons[0]
    assert "$0.0005526 per correct answer" in best.reasons[0]
    assert best.line.correct_nusd == pytest.approx(525_000 / 0.95)
    assert "under the floor of 85 %" in advice.left_out["gpt-4o-mini"]
    assert advice.ranked[-1].model.name == "gpt-4o"
    assert advice.ranked[-1].standing is Standing.DOUBTFUL
    few = standing_of(advice, "claude-opus-5-5")
    assert few.standing is Standing.OTHER
    assert f"too few to tell, {LEAST_SCORED} are the least" in few.reasons[0]
    assert not any("advice by rule" in note for note in advice.notes)


def test_repairs_decide_between_two_that_are_equally_right() -> None:
    right = scored(190, 200)
    repaired = Measured(asks=100, first_calls=100, first_nusd=1_000, all_nusd=1_500)
    history = History(
        accuracies={"gpt-4o-mini": right, "gpt-oss-120b@groq": right}, same_task={"gpt-4o-mini": repaired}
    )
    assert names(advise(need("default", floor=0.85), history))[:2] == ["gpt-oss-120b@groq", "gpt-4o-mini"]


def test_without_a_floor_an_accuracy_is_told_and_decides_nothing() -> None:
    advice = advise(need("code"), History(accuracies={"gpt-4o-mini": scored(50, 50)}))
    assert names(advice)[0] == "claude-sonnet-5-5"
    assert "name a --floor" in standing_of(advice, "gpt-4o-mini").reasons[0]
    assert any("No floor was named" in note for note in advice.notes)


def test_a_stand_in_is_of_another_provider() -> None:
    advice = advise(need("enrichment", 4_000, floor=0.8))
    assert advice.stand_in is not None
    assert advice.stand_in.model.provider not in {"together"}
    nothing = advise(need("code", vision=True, privacy=Privacy.STRICT))
    assert (nothing.ranked, nothing.stand_in) == ((), None)
