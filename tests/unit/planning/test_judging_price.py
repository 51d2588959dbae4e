"""What judging drawn answers will cost: how many are drawn, by whom they are judged, under which caps."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from batcher.budget.ledger import Account, Balance
from batcher.catalog.models import Catalog
from batcher.planning.caps import Books, Charge
from batcher.planning.evidence import Knowledge
from batcher.planning.history import History
from batcher.planning.judging import Draws, JudgePricer, JudgingPrice, expected_draws, lessons_of
from batcher.planning.pricing import Rung, rungs_of
from batcher.planning.requests import fit_of
from batcher.planning.sizes import Size
from batcher.quality.sampling import Sampling, uniform
from batcher.routing.state import Candidate, Learning, Routing, Target
from batcher.tasks import scorers

from .planning_cases import MODEL, make_catalog, make_task

JUDGE = "gpt-4o"
SIZES = [Size(4_000, 0, 300, 1_000.0), Size(400, 0, 700, 100.0)]


def sampling(share: float = 0.1, at_least: int = 20, judge: str | None = JUDGE, **more: Any) -> Sampling:
    return Sampling(share, at_least, 1, judge, **more)


def likely(
    how: Sampling, *answered: float, known: int = 0, judges_known: bool = False, firsts: int = 0
) -> float:
    return expected_draws(how, answered, known, judges_known=judges_known, firsts=firsts).likely


def test_first_answers_are_drawn_of_each_rung_and_the_share_of_the_rest() -> None:
    assert likely(sampling(), 1_000) == pytest.approx(20 + 98)
    assert likely(sampling(), 990, 10) == pytest.approx(30 + 97)
    assert likely(sampling(), 5) == 5
    assert likely(sampling(), 1_000, firsts=20) == pytest.approx(100)
    assert likely(sampling(), 500, 500, firsts=30) == pytest.approx(10 + 99), (
        "of the first rung all are drawn"
    )
    assert likely(sampling(share=0), 1_000) == 0


def test_known_answers_are_judged_where_the_task_leaves_them_to_a_judge() -> None:
    assert likely(sampling(), 1_000, known=200) == pytest.approx(20 + 78)
    assert likely(sampling(), 1_000, known=200, judges_known=True) == pytest.approx(200 + 20 + 78)
    assert likely(sampling(share=0), 1_000, known=1_500, judges_known=True) == 1_000


def routing(share: float = 0.05, *, known: bool = False, money: float = 0.05) -> Routing:
    return Routing(
        floor=0.8, queue="economy", base=Target(JUDGE, "premium"), model=JUDGE, tier="premium", reason="",
        candidates=(Candidate(MODEL, "economy", 100.0), Candidate(JUDGE, "premium", 1_000.0)),
        learning=Learning(MODEL, "economy", known, share), learning_share=money,
    )  # fmt: skip


def test_all_answers_are_judged_that_a_routed_job_learns_from() -> None:
    assert lessons_of(None, 2_000, 0, 500.0) == lessons_of(routing(share=0), 2_000, 0, 500.0) == Draws(0, 0)
    some = lessons_of(routing(), 2_000, 0, 500.0)
    assert some == Draws(100, 100)
    dear = lessons_of(routing(), 2_000, 0, 2_000.0)
    assert dear == Draws(50, 100), "judging takes no more than its share of the spend"
    taught = lessons_of(routing(known=True), 2_000, 40, 500.0)
    assert taught == Draws(pytest.approx(98 - 40), pytest.approx(98)), "known answers teach first"
    assert lessons_of(routing(known=True), 2_000, 600, 500.0).likely == 0

    drawn = expected_draws(sampling(0.02), [2_000], 0, judges_known=False, lessons=some)
    assert drawn.likely == pytest.approx(100 + 20 + 0.02 * 1_880)
    assert 164 < drawn.most < 250, "of 2,000 documents 154 and 164 were judged"
    assert expected_draws(sampling(0), [2_000], 0, judges_known=False, lessons=some) == some


def test_chance_does_not_draw_more_than_the_bound() -> None:
    draw = random.Random(3)
    how = sampling(share=0.05, at_least=0)
    bound = expected_draws(how, [400], 0, judges_known=False).most
    for job_id in range(500):
        drawn = sum(uniform(how.seed, job_id, draw.randbytes(20)) < how.share for _ in range(400))
        assert drawn <= bound < 60


def rung_of(catalog: Catalog, task: Any = None) -> Rung:
    spec = (task or make_task()).spec()
    fit = fit_of(spec, catalog.models[MODEL], catalog)
    return rungs_of([fit], SIZES, Knowledge(spec, History()))[0]


def price(
    how: Sampling, task: Any = None, usable: Callable[[Any], bool] = lambda _: True
) -> JudgingPrice | None:
    catalog = make_catalog()
    pricer = JudgePricer(how, catalog, usable, lambda _: History())
    rung = rung_of(catalog, task)
    return pricer.price((task or make_task()).spec(), [rung], SIZES, 0)


def test_the_price_grows_with_the_share_and_the_documents_are_not_counted_again() -> None:
    some, all_of_them = price(sampling(0.1, 0)), price(sampling(1.0, 0))
    assert some is not None
    assert all_of_them is not None
    assert (some.answers, all_of_them.answers, some.judge, some.tier) == (100, 1_000, JUDGE, "premium")
    assert some.price.likely_nusd == pytest.approx(all_of_them.price.likely_nusd / 10, rel=0.001)
    assert some.price.worst_nusd > all_of_them.price.worst_nusd / 10, "chance may draw more"
    assert (some.price.items, some.price.calls, some.price.least_nusd) == (0, 0, None)
    # At gpt-4o's $2.50 a million a judge reads more than the documents' 370,000 tokens.
    assert all_of_them.price.likely_nusd > 370_000 * 2_500


def test_of_each_step_of_a_ladder_its_first_answers_are_judged() -> None:
    catalog = make_catalog()
    pricer = JudgePricer(sampling(), catalog, lambda _: True, lambda _: History())
    steps = [rung_of(catalog)] * 3
    found = pricer.price(make_task().spec(), steps, SIZES, 0, shares=[0.6, 0.3, 0.1])
    assert found is not None
    assert found.answers == 60 + 94


def test_a_routed_job_judges_its_lessons_besides() -> None:
    pricer = JudgePricer(sampling(0.02, 0), make_catalog(), lambda _: True, lambda _: History())
    rung, spec = rung_of(make_catalog()), make_task().spec()
    plain = pricer.price(spec, [rung], SIZES, 0)
    learns = pricer.price(spec, [rung], SIZES, 0, routing=routing(money=10_000.0))
    assert plain is not None
    assert learns is not None
    assert (plain.answers, learns.answers) == (20, 50 + 19)
    assert learns.price.likely_nusd == pytest.approx(plain.price.likely_nusd * 69 / 20, rel=0.01)


def test_nobody_judges_his_own_answers_and_without_a_judge_there_is_no_price() -> None:
    assert price(sampling(judge=MODEL)) is None
    own = price(sampling(judge=MODEL, judge_own=True))
    assert own is not None
    assert own.tier == "economy"
    assert price(sampling(judge=None)) is None
    assert price(sampling(), usable=lambda model: model.name != JUDGE) is None
    assert price(sampling(share=0)) is None


def test_known_answers_that_a_judge_compares_are_read_too() -> None:
    prose = make_task(scorer=scorers.judged(by=JUDGE))
    plain, compared = price(sampling(1.0, 0)), price(sampling(1.0, 0), prose)
    assert plain is not None
    assert compared is not None
    assert compared.price.likely_nusd > plain.price.likely_nusd


def test_each_cap_holds_what_stands_under_it() -> None:
    balances = [
        Balance(Account(scope, "2026-11-20"), 100, 0, 0)
        for scope in ("day", "tier:economy", "tier:premium", "provider:openai", "task:cards", "tier:local")
    ]
    books = Books(0.0, "2026-11-20", tuple(balances))
    answers = Charge(frozenset(["economy"]), frozenset(["openai"]), 60, 70, 5)
    judging = Charge(frozenset(["premium"]), frozenset(["openai"]), 50, 90)
    found = {
        check.balance.account.scope: (check.likely_nusd, check.worst_nusd, check.smallest_nusd)
        for check in books.check("cards", [answers, judging])
    }
    assert found == {
        "day": (110, 160, 5),
        "tier:economy": (60, 70, 5),
        "tier:premium": (50, 90, None),
        "provider:openai": (110, 160, 5),
        "task:cards": (110, 160, 5),
    }


def test_the_judge_s_prices_are_the_judge_s() -> None:
    catalog = make_catalog()
    dear = dataclasses.replace(
        catalog.models[JUDGE],
        prices=dataclasses.replace(catalog.models[JUDGE].prices, input_nusd=10**10),
    )
    models = {**catalog.models, JUDGE: dear}
    rung = rung_of(catalog)
    pricer = JudgePricer(
        sampling(1.0, 0), dataclasses.replace(catalog, models=models), lambda _: True, lambda _: History()
    )
    found, usual = pricer.price(make_task().spec(), [rung], SIZES, 0), price(sampling(1.0, 0))
    assert found is not None
    assert usual is not None
    assert found.price.likely_nusd > 2 * usual.price.likely_nusd
