"""A plan over all models: which one is chosen, what the others would change, and who sees pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batcher.budget.ledger import Account, Balance, Ledger
from batcher.catalog.models import Catalog, Limits, Model
from batcher.documents.records import Parsed, document_of_text
from batcher.planning.advice import cheaper_choice, dearer_choice, sentence
from batcher.planning.caps import Books, first_books
from batcher.planning.choice import Usable
from batcher.planning.evidence import Knowledge, Source, known_answers
from batcher.planning.history import History, Measured, MeasuredAccuracy
from batcher.planning.judging import JudgePricer
from batcher.planning.order import Order, SubmitRequest
from batcher.planning.plan import Choice, Plan, Planner
from batcher.planning.survey import Survey, take_survey
from batcher.quality.sampling import Sampling
from batcher.routing.ladder.policy import Evidence as LadderEvidence
from batcher.routing.ladder.policy import LadderPolicy, Step
from batcher.statistics.intervals import wilson
from batcher.store.database import Store
from batcher.tasks import Task, TaskError
from batcher.tasks.golden import load_golden

from .planning_cases import MODEL, make_catalog, make_task

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
TEXTS = [
    Parsed(f"{n}.txt", document_of_text(f"Text {n}. " + "On rivers and bridges. " * 20)) for n in range(50)
]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('plan') / 'none.db'}", read_only=True)
    yield Ledger(store, "UTC")
    store.close()


def make_order(task: Task, catalog: Catalog, *, model: str = MODEL, pinned: bool = False) -> Order:
    spec = task.spec()
    return Order(
        request=SubmitRequest(["docs"], task.name),
        task=task,
        spec=spec,
        tier="economy",
        pinned_model=model if pinned else None,
        ladder=("economy",) if pinned else task.ladder,
        accepts=(model,),
        image_tier="economy",
        golden=None,
        dropped_rungs=(),
        model=catalog.models[model],
    )


def make_plan(
    ledger: Ledger,
    *,
    catalog: Catalog | None = None,
    order: Order | None = None,
    survey: Survey | None = None,
    history: History | None = None,
    is_usable: Usable = lambda _: True,
    books: Books | None = None,
    finish_by: float | None = None,
    judge: JudgePricer | None = None,
) -> Plan:
    catalog = catalog or make_catalog()
    order = order or make_order(make_task(), catalog)
    planner = Planner(
        order=order,
        catalog=catalog,
        is_usable=is_usable,
        survey=survey or take_survey(TEXTS, order.spec, order.image_tier, None),
        knowledge=Knowledge(order.spec, history or History()),
        books=books or first_books(NOW, "UTC", None),
        ledger=ledger,
        concurrency=16,
        judge=judge,
    )
    return planner.plan(finish_by, None)


def test_judging_is_a_part_of_the_price_and_stands_under_the_judge_s_own_cap(ledger: Ledger) -> None:
    catalog = make_catalog()
    sampling = Sampling(0.5, 0, 1, "gpt-4o")
    judge = JudgePricer(sampling, catalog, lambda _: True, lambda _: History())
    day = Balance(Account("day", "2026-11-20"), 10**10, 0, 0)
    premium = Balance(Account("tier:premium", "2026-11-20"), 10**6, 0, 0)
    books = Books(NOW, "2026-11-20", (day, premium))
    plain, judged = (
        make_plan(ledger, catalog=catalog, books=books, judge=one).chosen for one in (None, judge)
    )
    assert plain.judging is None
    assert judged.judging is not None
    assert judged.judging.answers == 25
    more_nusd = judged.price.likely_nusd - plain.price.likely_nusd
    assert more_nusd == judged.judging.price.likely_nusd > 10**6
    assert judged.price.items == plain.price.items
    assert [check.balance.account.scope for check in plain.checks] == ["day"]
    assert [(check.fits_likely, check.likely_nusd) for check in judged.checks] == [
        (True, judged.price.likely_nusd),
        (False, more_nusd),
    ]


def test_a_learned_ladder_costs_what_it_cost_on_known_answers_and_names_its_steps(ledger: Ledger) -> None:
    catalog = make_catalog()
    evidence = LadderEvidence(160, 0.95, 0.9, 0.98, 7_000.0, 100.0, "gpt-4.1", 0.96, 9_000.0)
    steps = (Step(MODEL, 0.8), Step("gpt-4.1", 0.0))
    policy = LadderPolicy(steps, "95 %", True, None, {}, {}, (), 0.0, evidence)
    # The ladder's first model need not be on the tier that the request names.
    order = dataclasses.replace(
        make_order(make_task(), catalog), tier="local", learned=policy, ladder_policy_id=3
    )
    day = Balance(Account("day", "2026-11-20"), 10**10, 0, 0)
    caps = [Balance(Account(f"tier:{name}", "2026-11-20"), 10**10, 0, 0) for name in ("economy", "premium")]
    plan = make_plan(ledger, catalog=catalog, order=order, books=Books(NOW, "2026-11-20", (day, *caps)))
    chosen = plan.chosen
    assert (chosen.steps, chosen.tier, chosen.model.name) == ((MODEL, "gpt-4.1"), "economy", MODEL)
    assert chosen.price.likely_nusd == 50 * 7_000
    alone = next(one for one in plan.choices if (one.tier, one.model.name) == ("premium", "gpt-4.1"))
    cheap = next(one for one in plan.choices if one.model.name == MODEL and not one.steps)
    assert chosen.price.first_nusd == cheap.price.first_nusd + alone.price.first_nusd
    assert chosen.price.worst_nusd > alone.price.worst_nusd, "every document may be asked about twice"
    judged = dataclasses.replace(order, learned=dataclasses.replace(policy, judge="gpt-4o"))
    dearer = make_plan(ledger, catalog=catalog, order=judged).chosen.price
    assert dearer.first_nusd > chosen.price.first_nusd, "the judge may look at every first answer"
    assert dearer.worst_nusd > chosen.price.worst_nusd
    assert [check.balance.account.scope for check in chosen.checks] == ["day", "tier:economy", "tier:premium"]
    assert chosen.accuracy is not None
    assert chosen.accuracy.interval.share == 0.95
    assert [choice.is_chosen for choice in plan.choices].count(True) == 1


def choice_of(plan: Plan, model: str) -> Choice:
    return next(choice for choice in plan.choices if choice.model.name == model)


def is_openai(model: Model) -> bool:
    return model.provider == "openai"


def test_every_model_of_every_tier_has_a_row_and_one_is_chosen(ledger: Ledger) -> None:
    catalog = make_catalog()
    plan = make_plan(ledger, catalog=catalog, is_usable=is_openai)
    rows = [(choice.tier, choice.model.name) for choice in plan.choices]
    assert rows == [(tier, name) for tier, names in catalog.tiers.items() for name in names]
    assert [choice.model.name for choice in plan.choices if choice.is_chosen] == [MODEL]
    assert {choice.is_usable for choice in plan.choices if choice.model.provider == "openai"} == {True}
    assert {choice.is_usable for choice in plan.choices if choice.model.provider != "openai"} == {False}
    assert plan.survey.new == plan.chosen.price.items == 50
    local = choice_of(plan, "smollm2-135m")
    assert (local.price.worst_nusd, local.time, local.ends_at) == (0, None, None)


def test_a_model_off_all_tiers_is_the_first_row(ledger: Ledger) -> None:
    catalog = make_catalog()
    own = dataclasses.replace(catalog.models[MODEL], name="own")
    catalog = dataclasses.replace(catalog, models={**catalog.models, "own": own})
    order = dataclasses.replace(make_order(make_task(), catalog, model="own", pinned=True), tier="custom")
    plan = make_plan(ledger, catalog=catalog, order=order)
    assert (plan.choices[0].tier, plan.choices[0].model.name) == ("custom", "own")
    assert plan.chosen is plan.choices[0]


def test_climbs_are_part_of_the_figure_unless_a_model_is_pinned(ledger: Ledger) -> None:
    catalog = make_catalog()
    measured = Measured(
        asks=100, first_calls=100, input_tokens=30_000, output_tokens_all=2_000,
        first_nusd=50_000_000, all_nusd=50_000_000, items=100, climbed=20,
    )  # fmt: skip
    still = dataclasses.replace(measured, climbed=0)
    climbing = make_plan(ledger, history=History(same_task={MODEL: measured}))
    staying = make_plan(ledger, history=History(same_task={MODEL: still}))
    above = choice_of(staying, catalog.tiers["standard"][0])
    assert climbing.chosen.price.likely_nusd == pytest.approx(
        staying.chosen.price.likely_nusd + 0.2 * above.price.likely_nusd, rel=1e-6
    )
    pinned = make_order(make_task(), catalog, pinned=True)
    alone = make_plan(ledger, order=pinned, history=History(same_task={MODEL: measured}))
    assert alone.chosen.price.likely_nusd == staying.chosen.price.likely_nusd
    assert alone.chosen.price.worst_nusd < staying.chosen.price.worst_nusd


def test_pictures_go_to_the_first_rung_that_sees(ledger: Ledger) -> None:
    catalog = make_catalog(abilities=frozenset({"schema"}))
    survey = Survey()
    survey.texts.add(400, 0, 100)
    survey.pictures.add(0, 1, 0)
    plan = make_plan(ledger, catalog=catalog, order=make_order(make_task(), catalog), survey=survey)
    seeing = catalog.tiers["standard"][0]
    assert plan.chosen.pictures_by == seeing
    assert plan.chosen.unseen == 0
    assert plan.chosen.price.items == 2
    assert choice_of(plan, seeing).pictures_by is None
    pinned = make_plan(
        ledger, catalog=catalog, order=make_order(make_task(), catalog, pinned=True), survey=survey
    )
    assert (pinned.chosen.pictures_by, pinned.chosen.unseen, pinned.chosen.price.items) == (None, 1, 1)


def test_a_model_without_room_for_the_task_is_told_and_never_advised(ledger: Ledger) -> None:
    task = make_task(prompt="Make a card. " * 2_000)
    catalog = make_catalog()
    plan = make_plan(ledger, catalog=catalog, order=make_order(task, catalog))
    small = choice_of(plan, "smollm2-135m")
    assert not small.has_room
    assert small.price.items == 0
    cheaper = cheaper_choice(plan)
    assert cheaper is None or cheaper.has_room


def test_advice_names_the_next_tier_and_what_costs_least(ledger: Ledger) -> None:
    catalog = make_catalog()
    accuracies = {
        MODEL: MeasuredAccuracy(90, 100, wilson(90, 100)),
        "claude-haiku-4-5": MeasuredAccuracy(48, 50, wilson(48, 50)),
    }
    plan = make_plan(ledger, catalog=catalog, history=History(accuracies=accuracies))
    cheaper, dearer = cheaper_choice(plan), dearer_choice(plan)
    assert cheaper is not None
    assert dearer is not None
    assert 0 < cheaper.price.likely_nusd < plan.chosen.price.likely_nusd < dearer.price.likely_nusd
    assert all(
        cheaper.price.likely_nusd <= choice.price.likely_nusd
        for choice in plan.choices
        if choice.price.first_nusd
    )
    assert "less" in sentence(plan, cheaper)
    assert "never scored" in sentence(plan, cheaper)
    haiku = sentence(plan, choice_of(plan, "claude-haiku-4-5"))
    assert "96% of 50 scored answers were right, of gpt-4o-mini's 90% of 100" in haiku


def test_advice_tells_of_times_that_differ(ledger: Ledger) -> None:
    plan = make_plan(ledger, catalog=make_catalog(limits=Limits(rpm=10, tpm=None)))
    faster = sentence(plan, choice_of(plan, "gpt-4.1-mini"))
    assert "% of the time" in faster
    quick = make_plan(ledger)
    assert "times as long" in sentence(quick, choice_of(quick, "gpt-4o"))
    assert "time" not in sentence(plan, choice_of(plan, "smollm2-135m"))


def test_advice_prefers_what_there_is_a_key_for(ledger: Ledger) -> None:
    plan = make_plan(ledger, is_usable=lambda model: model.provider in {"openai", "local"})
    cheaper, dearer = cheaper_choice(plan), dearer_choice(plan)
    assert cheaper is not None
    assert dearer is not None
    assert cheaper.is_usable
    assert dearer.is_usable
    without = make_plan(ledger, is_usable=lambda model: model.name == MODEL)
    other = dearer_choice(without)
    assert other is not None
    assert "there is no key for it" in sentence(without, other)


def test_the_time_that_was_named_is_met_or_somebody_else_meets_it(ledger: Ledger) -> None:
    slow = make_catalog(limits=Limits(rpm=1, tpm=None))
    plan = make_plan(ledger, catalog=slow, finish_by=NOW + 600)
    assert plan.chosen.time is not None
    assert plan.chosen.time.seconds > 600
    assert not plan.chosen.is_in_time(NOW + 600)
    other = plan.first_in_time()
    assert other is not None
    assert other.is_in_time(NOW + 600)
    assert all(
        other.price.likely_nusd <= choice.price.likely_nusd
        for choice in plan.choices
        if choice.is_in_time(NOW + 600)
    )
    assert make_plan(ledger, finish_by=NOW).first_in_time() is None
    assert make_plan(ledger).first_in_time() is None


def test_a_cap_of_a_tier_concerns_that_tier_alone(ledger: Ledger) -> None:
    books = Books(NOW, "2026-11-20", (
        Balance(Account("day", "2026-11-20"), 5 * 10**9, 0, 0),
        Balance(Account("tier:economy", "2026-11-20"), 1, 0, 0),
        Balance(Account("provider:anthropic", "2026-11-20"), 10**9, 0, 0),
    ))  # fmt: skip
    plan = make_plan(ledger, books=books)
    assert [check.balance.account.scope for check in plan.chosen.checks] == ["day", "tier:economy"]
    haiku = choice_of(plan, "claude-haiku-4-5")
    assert [check.balance.account.scope for check in haiku.checks] == ["day", "provider:anthropic"]
    assert plan.chosen.ends_at is None
    assert haiku.ends_at is not None


def test_an_unpriced_model_is_named(ledger: Ledger) -> None:
    catalog = make_catalog()
    tiers = {**catalog.tiers, "economy": (MODEL, "mystery")}
    plan = make_plan(ledger, catalog=dataclasses.replace(catalog, tiers=tiers))
    assert plan.unpriced == ("mystery",)


def test_a_hint_counts_where_no_answer_is_known(tmp_path: Path, ledger: Ledger) -> None:
    catalog = make_catalog()
    task = make_task(typical_output_tokens=33)
    hinted = make_plan(ledger, catalog=catalog, order=make_order(task, catalog)).chosen.evidence
    assert (hinted.output_from, hinted.output.typical) == (Source.HINT, 33)
    guessed = make_plan(ledger).chosen.evidence
    assert guessed.output_from is Source.SCHEMA
    (tmp_path / "golden.jsonl").write_text('{"id": "a", "text": "x", "expected": {"title": "On rivers"}}')
    home = dataclasses.replace(task, home=tmp_path)
    [golden] = known_answers(None, home)
    knowledge = Knowledge(task.spec(), History(), [golden])
    assert knowledge.of(_fit(task, catalog)).output_from is Source.GOLDEN
    assert known_answers(golden, None) == [golden]
    assert [found.path for found in known_answers(load_golden(golden.path), home)] == [golden.path] * 2
    (tmp_path / "golden.jsonl").write_text("not JSON")
    assert known_answers(None, home) == []


def _fit(task: Task, catalog: Catalog) -> Any:
    from batcher.planning.requests import fit_of

    return fit_of(task.spec(), catalog.models[MODEL], catalog)


def test_half_the_limit_is_the_last_resort() -> None:
    def free(_: None) -> dict[str, Any]:
        return {"type": "object", "properties": {"any": {"type": "array"}}, "required": ["any"]}

    task = make_task(output=free)
    found = Knowledge(task.spec(), History()).of(_fit(task, make_catalog()))
    assert (found.output_from, found.output.typical) == (Source.HALF_LIMIT, 50)


@pytest.mark.parametrize("tokens", [0, -1, 101])
def test_a_hint_that_cannot_be_is_refused(tokens: int) -> None:
    with pytest.raises(TaskError, match="typical_output_tokens"):
        make_task(typical_output_tokens=tokens)


def test_a_hint_is_no_part_of_a_result_s_identity() -> None:
    assert make_task(typical_output_tokens=33).spec().fingerprint == make_task().spec().fingerprint
