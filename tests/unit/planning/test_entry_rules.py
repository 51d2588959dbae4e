"""Where documents start by a task's rules, what a router is asked, and what a plan makes of both."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.budget.ledger import Ledger
from batcher.catalog.models import Catalog
from batcher.catalog.tokens import estimate_tokens
from batcher.documents.corpus import SourceOptions, read_corpus
from batcher.documents.language import language_of
from batcher.documents.records import Parsed, document_of_images, document_of_text
from batcher.domain import Document, Image
from batcher.planning.admission import admit
from batcher.planning.entry import EntryRules, Traits, entry_rules, fits
from batcher.planning.order import Order
from batcher.planning.plan import Plan
from batcher.planning.router import RouteParser, open_routes, router_messages, router_task
from batcher.planning.survey import take_survey
from batcher.tasks import Task
from batcher.tasks.entry import KINDS, Router, RouterSpec, Rule
from batcher.tasks.spec import TaskSpec
from tests.support.document_files import pdf, text_page

from .planning_cases import make_catalog, make_task
from .test_plan import ledger, make_order, make_plan

__all__ = ["ledger"]

PICTURE = Image("image/png", b"\x89PNG", 10, 10)
LADDER = ("economy", "standard", "premium")
SPEC = TaskSpec(
    name="t", version=1, instructions="Say.", schema={"type": "object"}, schema_name="t",
    max_output_tokens=10, tier="economy", ladder=LADDER, floor=0.8, correct_at=1.0,
)  # fmt: skip
ROUTER = RouterSpec("economy", "Is it hard?", {"simple": "economy", "complex": "premium"}, 8, 50)
GERMAN = "Der Kunde fragt nach seiner Rechnung, und niemand weiß, wo sie geblieben ist."
ENGLISH = "The customer asks for an invoice, and nobody knows what has become of it."

documents = st.builds(
    lambda text, kind, pictured: Parsed(
        "a", document_of_images([PICTURE], text) if pictured else document_of_text(text), kind
    ),
    st.text(alphabet="ab 1\n", max_size=60) | st.sampled_from([GERMAN, ENGLISH]),
    st.sampled_from(KINDS),
    st.booleans(),
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "min_tokens": st.integers(0, 20),
        "kind": st.sampled_from(KINDS),
        "language": st.sampled_from(["de", "en"]),
        "has_images": st.booleans(),
        "matches": st.sampled_from(["a+b", "1", "^a", "Kunde"]),
    },
).filter(bool)
rules = st.builds(lambda tier, found: Rule(tier=tier, **found), st.sampled_from(LADDER), conditions)


def meets(entry: Parsed, rule: Rule) -> bool:
    """The same as ``fits``, the long way."""
    text, images = entry.document.text, entry.document.images
    return not (
        (rule.min_tokens is not None and estimate_tokens(text) < rule.min_tokens)
        or (rule.kind is not None and entry.kind != rule.kind)
        or (rule.language is not None and language_of(text) != rule.language)
        or (rule.has_images is not None and bool(images) != rule.has_images)
        or (rule.matches is not None and not re.search(rule.matches, text))
    )


@given(entry=documents, found=st.lists(rules, max_size=5))
def test_the_first_fitting_rule_decides(entry: Parsed, found: list[Rule]) -> None:
    rungs = {rule.tier: rule.tier for rule in found}
    first = next((rule.tier for rule in found if meets(entry, rule)), None)
    assert EntryRules(tuple(found), rungs, rungs).rung_of(entry) == first


@given(entry=documents, one=rules, other=rules)
def test_a_rule_that_covers_another_fits_whatever_that_fits(entry: Parsed, one: Rule, other: Rule) -> None:
    assert one.covers(one)
    if one.covers(other) and fits(other, Traits(entry)):
        assert fits(one, Traits(entry))


def test_languages_are_told_and_what_does_not_tell_is_none() -> None:
    assert (language_of(GERMAN), language_of(ENGLISH)) == ("de", "en")
    assert [language_of(text) for text in ("", "4711", "ok")] == [None, None, None]


def test_a_document_keeps_the_kind_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A text.")
    (tmp_path / "b.html").write_text("<html><body><p>A page.</p></body></html>")
    (tmp_path / "c.jsonl").write_text('{"id": "1", "text": "A row."}\n')
    (tmp_path / "d.pdf").write_bytes(pdf([text_page("A page of some words.")]))
    found = {
        Path(entry.source).name: entry.kind
        for entry in read_corpus([str(tmp_path)], SourceOptions(10**7))
        if isinstance(entry, Parsed)
    }
    assert found == {"a.txt": "text", "b.html": "html", "c.jsonl#1": "text", "d.pdf": "pdf"}


def test_an_item_starts_where_the_rule_says_and_pictures_where_they_are_seen() -> None:
    spec = replace(SPEC, entry=(Rule(tier="standard", matches="hard"),))
    found = EntryRules(spec.entry, {"standard": "standard"}, {"standard": "premium"})
    text, picture = document_of_text("a hard case"), document_of_images([PICTURE], "a hard case")
    assert admit(Parsed("a", text), spec, "economy", found).tier == "standard"
    assert admit(Parsed("a", picture), spec, "economy", found).tier == "premium"
    assert admit(Parsed("a", document_of_text("easy")), spec, "economy", found).tier is None
    assert admit(Parsed("a", document_of_images([PICTURE])), spec, "economy", found).tier == "economy"
    assert admit(Parsed("a", picture), spec, None, found).error_class == "needs_vision"


def test_a_rung_without_a_key_is_passed_over_upwards() -> None:
    catalog = make_catalog()
    tiers = list(catalog.tiers)
    spec = replace(SPEC, ladder=tuple(tiers), tier=tiers[0], entry=(Rule(tier=tiers[1], kind="pdf"),))
    left = [tier for tier in tiers if tier != tiers[1]]
    found = entry_rules(catalog, spec, left, None, lambda _: True)
    assert found is not None
    assert found.moved() == {tiers[1]: left[1]}
    assert entry_rules(catalog, spec, left, "gpt-4o", lambda _: True) is None
    assert entry_rules(catalog, replace(spec, entry=()), left, None, lambda _: True) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("simple", "simple"),
        (" Simple.\n", "simple"),
        ("**complex**", "complex"),
        ('{"route": "complex"}', "complex"),
        ("The document is simple", "simple"),
        ("simple or complex", None),
        ("simply", None),
        ("", None),
        ("I cannot help with that.", None),
    ],
)
def test_a_routers_answer_is_one_label_or_none(text: str, label: str | None) -> None:
    asking = router_task(replace(SPEC, router=ROUTER))
    assert asking is not None
    assert RouteParser(asking).parse(text) == label


@given(st.text(max_size=3_000))
def test_a_router_reads_the_beginning_of_a_document(text: str) -> None:
    asking = router_task(replace(SPEC, router=ROUTER))
    assert asking is not None
    system, user = router_messages(asking, Document(b"h" * 20, text), 50)
    shown = user.text.split(">\n", 1)[1].rsplit("\n</", 1)[0]
    assert text.startswith(shown)
    assert estimate_tokens(shown) <= 50
    assert shown == text or estimate_tokens(text) > 50
    assert "Is it hard?" in system.text
    assert "simple or complex" in user.text


def test_a_routers_answers_are_kept_by_what_it_is_asked() -> None:
    def fingerprint(**changes: Any) -> bytes:
        asking = router_task(replace(SPEC, **{"router": ROUTER, **changes}))
        assert asking is not None
        return asking.fingerprint

    same = fingerprint()
    assert fingerprint(instructions="Say more.", tier="standard") == same
    moved = replace(ROUTER, routes={"simple": "economy", "complex": "standard"})
    assert fingerprint(router=moved) == same, "where a label leads is no part of the question"
    assert fingerprint(router=replace(ROUTER, instructions="Is it long?")) != same
    assert fingerprint(router=replace(ROUTER, read_tokens=60)) != same


def test_a_router_that_decides_nothing_is_not_asked() -> None:
    spec = replace(SPEC, router=ROUTER)
    assert open_routes(spec, "economy", LADDER) == {"simple": "economy", "complex": "premium"}
    assert open_routes(spec, "economy", ["economy", "standard"]) == {
        "simple": "economy",
        "complex": "standard",
    }
    assert open_routes(spec, "economy", ["economy"]) == {}
    assert open_routes(replace(spec, tier="premium", ladder=("premium",)), "premium", ["premium"]) == {}
    assert open_routes(SPEC, "economy", LADDER) == {}
    assert Router(tier="local", prompt="x", routes=ROUTER.routes).faults() == []


RULED = make_task(
    ladder=("economy", "standard", "premium"),
    entry=[Rule(tier="premium", min_tokens=100), Rule(tier="standard", matches="hard")],
)
ASKING = make_task(
    ladder=("economy", "premium"),
    router=Router(tier="economy", prompt="Is it hard?", routes={"simple": "economy", "complex": "premium"}),
)
SHORT, HARD, LONG = "A short text.", "A hard text.", "On rivers and bridges. " * 40


def order_of(task: Task, catalog: Catalog) -> Order:
    order = make_order(task, catalog)
    return replace(order, entry=entry_rules(catalog, order.spec, order.ladder, None, lambda _: True))


def plan_of(ledger: Ledger, task: Task, texts: list[str], **changes: Any) -> Plan:
    catalog = make_catalog()
    order = replace(order_of(task, catalog), **changes)
    corpus = [Parsed(f"{n}", document_of_text(f"{text} {n}")) for n, text in enumerate(texts)]
    survey = take_survey(corpus, order.spec, "economy", None, rules=order.entry)
    return make_plan(ledger, catalog=catalog, order=order, survey=survey)


def test_a_plan_prices_documents_on_the_rung_where_they_start(ledger: Ledger) -> None:
    texts = [SHORT] * 5 + [HARD] * 3 + [LONG] * 2
    plan = plan_of(ledger, RULED, texts)
    started = {rung: sizes.documents for rung, sizes in plan.survey.by_rule.items()}
    assert started == {"standard": 3, "premium": 2}
    assert plan.survey.new == plan.chosen.price.items == 10
    assert sum(size.items for size in plan.survey.sizes()) == 10

    def alone(tier: str, some: list[str], first: int) -> int:
        """What documents cost that are all there is, on a task that starts there."""
        catalog = make_catalog()
        task = make_task(tier=tier, ladder=RULED.ladder)
        corpus = [Parsed(f"{n}", document_of_text(f"{text} {n}")) for n, text in enumerate(some, first)]
        order = make_order(task, catalog, model=catalog.tiers[tier][0])
        order = replace(order, tier=tier, spec=task.spec(), ladder=task.spec().ladder)
        survey = take_survey(corpus, order.spec, "economy", None)
        return make_plan(ledger, catalog=catalog, order=order, survey=survey).chosen.price.likely_nusd

    parts = [
        alone("economy", [SHORT] * 5, 0),
        alone("standard", [HARD] * 3, 5),
        alone("premium", [LONG] * 2, 8),
    ]
    assert plan.chosen.price.likely_nusd == pytest.approx(sum(parts), abs=3)
    by_tier = {(choice.tier, choice.model.name): choice.price for choice in plan.choices}
    dearest = [price for (tier, _), price in by_tier.items() if tier == "premium"]
    assert all(price.items == 10 for price in dearest), "all start there if the job does"
    assert min(price.likely_nusd for price in dearest) > plan.chosen.price.likely_nusd


def test_a_plan_counts_what_the_router_costs(ledger: Ledger) -> None:
    plain = plan_of(ledger, ASKING, [SHORT] * 10, spec=make_task(ladder=("economy", "premium")).spec())
    asked = plan_of(ledger, ASKING, [SHORT] * 10)
    more = asked.chosen.price.likely_nusd - plain.chosen.price.likely_nusd
    assert more == asked.chosen.router_nusd > 0
    assert plain.chosen.router_nusd == 0
    assert asked.chosen.price.items == 10
    assert asked.chosen.price.worst_nusd - plain.chosen.price.worst_nusd >= more
    pinned = plan_of(ledger, ASKING, [SHORT] * 10, pinned_model="gpt-4o-mini")
    assert pinned.chosen.router_nusd == 0
    on_top = next(choice for choice in asked.choices if choice.tier == "premium")
    assert on_top.router_nusd == 0, "there is nothing to choose between"
