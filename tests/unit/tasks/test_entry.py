"""Rules and routers as an author writes them, and as a job stores them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batcher.documents.recognition import Kind
from batcher.tasks import Router, Rule, Stage, Task, TaskError, scorers
from batcher.tasks.entry import KINDS, RouterSpec, rung_for
from batcher.tasks.spec import TaskSpec

LADDER = ("economy", "standard", "premium")


class Answer(BaseModel):
    label: str


def task(**fields: Any) -> Task:
    wanted = {"name": "t", "version": 1, "prompt": "Say.", "output": Answer, "scorer": scorers.exact}
    return Task(**{**wanted, "ladder": LADDER, **fields})


ROUTER = Router(tier="economy", prompt="Is it hard?", routes={"simple": "economy", "complex": "premium"})


def rules() -> st.SearchStrategy[Rule]:
    bounds = st.lists(st.none() | st.integers(0, 10**6), min_size=2, max_size=2).filter(
        lambda pair: None in pair or pair[0] <= pair[1]  # type: ignore[operator]
    )
    conditions = st.fixed_dictionaries(
        {
            "bounds": bounds,
            "kind": st.none() | st.sampled_from(KINDS),
            "language": st.none() | st.sampled_from(["de", "en", "zh"]),
            "has_images": st.none() | st.booleans(),
            "matches": st.none() | st.text().map(lambda text: f"^{orjson.dumps(text).decode()[1:-1]}?$"),
        }
    )

    def make(tier: str, found: dict[str, Any]) -> Rule | None:
        least, most = found.pop("bounds")
        try:
            return Rule(tier=tier, min_tokens=least, max_tokens=most, **found)
        except TaskError:
            return None

    return st.builds(make, st.sampled_from(LADDER), conditions).filter(lambda rule: rule is not None)  # type: ignore[return-value,arg-type]


@given(st.lists(rules(), max_size=4))
def test_a_stored_task_has_the_same_rules_and_router(found: list[Rule]) -> None:
    spec = task(entry=found, router=ROUTER).spec()
    assert spec.entry == tuple(found)
    assert spec.router == RouterSpec("economy", "Is it hard?", dict(ROUTER.routes), 8, 1_000)
    assert TaskSpec.from_json(spec.to_json()) == spec
    assert spec.fingerprint == task().spec().fingerprint, "they are no part of a result's identity"


def test_a_stored_rule_with_a_condition_of_a_later_version_is_not_read_as_one_without_it() -> None:
    stored = orjson.loads(task(entry=[Rule(tier="premium", kind="pdf")]).spec().to_json())
    stored["entry"][0]["smells_of"] = "fish"
    with pytest.raises(TaskError, match="Submit the job again"):
        TaskSpec.from_json(orjson.dumps(stored))


def test_a_task_stored_before_there_were_rules_has_none() -> None:
    stored = orjson.loads(task().spec().to_json())
    del stored["entry"], stored["router"]
    assert TaskSpec.from_json(orjson.dumps(stored)) == task().spec()


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({}, "no condition"),
        ({"kind": "docx"}, "kind must be one of"),
        ({"language": "German"}, "ISO 639-1"),
        ({"min_tokens": -1}, "negative"),
        ({"min_tokens": 9, "max_tokens": 8}, "no document is longer"),
        ({"matches": "(("}, "no regular expression"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(conditions: dict[str, Any], told: str) -> None:
    with pytest.raises(TaskError, match=told):
        Rule(tier="premium", **conditions)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"entry": [Rule(tier="local", kind="pdf")]}, "a rule starts documents on 'local'"),
        ({"entry": [Rule(tier="economy", kind="pdf")], "tier": "standard"}, "from 'standard' up"),
        ({"entry": ["premium"]}, "Rule"),
        ({"router": "economy"}, "Router"),
        ({"router": replace(ROUTER, routes={"simple": "economy"})}, "fewer than two"),
        ({"router": replace(ROUTER, routes={"a": "economy", "b": "local"})}, "its router starts documents"),
        ({"router": replace(ROUTER, routes={"yes it is": "economy", "no": "premium"})}, "one word"),
        ({"router": replace(ROUTER, routes={"Yes": "economy", "yes": "premium"})}, "only in case"),
        ({"router": replace(ROUTER, max_output_tokens=0)}, "max_output_tokens"),
        ({"router": replace(ROUTER, read_tokens=0)}, "read_tokens"),
    ],
)
def test_a_task_whose_rules_or_router_lead_nowhere_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(TaskError, match=told):
        task(**fields)


def test_of_several_steps_they_are_for_the_first() -> None:
    first = Stage(name="extract", prompt="Extract.", output=Answer, ladder=LADDER)
    staged = task(before=[first], entry=[Rule(tier="premium", kind="pdf")], router=ROUTER, tier="premium")
    [extract] = staged.stage_specs()
    assert (len(extract.entry), extract.router is None) == (1, False)
    assert (staged.spec().entry, staged.spec().router) == ((), None)
    with pytest.raises(TaskError, match="its ladder from 'economy' up is economy"):
        task(before=[replace(first, ladder=())], entry=[Rule(tier="premium", kind="pdf")])


def test_a_router_may_use_the_tasks_parameters() -> None:
    class Params(BaseModel):
        desk: str

    made = task(router=replace(ROUTER, prompt="Is it hard for {{ desk }}?"), params=Params)
    router = made.spec({"desk": "billing"}).router
    assert router is not None
    assert router.instructions == "Is it hard for billing?"


def test_the_kinds_are_those_that_are_recognised() -> None:
    assert set(KINDS) == {kind.value for kind in Kind}


def test_a_rule_in_words() -> None:
    rule = Rule(
        tier="premium", min_tokens=6000, max_tokens=9000, kind="pdf", language="de", has_images=False,
        matches=r"\d+",
    )  # fmt: skip
    assert rule.describe() == (
        "at least 6,000 tokens, at most 9,000 tokens, kind pdf, language de, no pictures, matches '\\\\d+' "
        "-> premium"
    )


@given(
    tier=st.sampled_from((*LADDER, "local")),
    ladder=st.integers(0, 2).map(lambda start: LADDER[start:]),
    data=st.data(),
)
def test_a_rung_stands_for_a_tier_from_there_up_then_below_and_never_under_the_jobs_own(
    tier: str, ladder: tuple[str, ...], data: st.DataObject
) -> None:
    usable = [ladder[0], *(rung for rung in ladder[1:] if data.draw(st.booleans()))]
    found = rung_for(tier, ladder, usable)
    assert found in usable
    if tier in usable:
        assert found == tier
    elif tier not in ladder:
        assert found == usable[0]
    else:
        above = [rung for rung in usable if ladder.index(rung) > ladder.index(tier)]
        assert found == (above[0] if above else usable[-1])
