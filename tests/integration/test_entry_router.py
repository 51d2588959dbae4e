"""Routers at work: the routed mixes of the field at their prices, and runs that are killed in the middle."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from batcher.catalog.models import Limits
from batcher.domain import JobState, Prices
from batcher.engine.control import Ending
from batcher.runtime import Runtime
from batcher.simulator.faults import Fault
from batcher.simulator.requests import Call
from tests.support.routers import ANSWER, LADDER, routed_task
from tests.support.run_child import ended, start
from tests.support.runs import (
    item_statuses,
    job_of,
    make_job,
    make_runtime,
    reserved,
    rows,
    run,
    spent,
)
from tests.support.staged import TASK as STAGED
from tests.support.staged import documents, staged_job, steps, write_table, write_task
from tests.support.vendor_server import VendorServer

TASK = routed_task(1_000)
ROUTE_TOKENS, ANSWER_TOKENS = (650, 3), (1_000, 1_000)
"""Input and output of a call: a router's costs about $0.0001 on a mini, an answer is the field's."""


@dataclass(frozen=True)
class Mix:
    """A cheap and a dear model at dollars per million tokens, and how many of 100 documents are simple."""

    cheap: tuple[float, float]
    dear: tuple[float, float]
    simple: int
    saved: float


MINI, GPT_4O, SONNET = (0.15, 0.60), (2.50, 10.00), (3.00, 15.00)
MIXES = {
    "mini and gpt-4o": Mix(MINI, GPT_4O, 70, 0.658),
    "mini and sonnet, against gpt-4o": Mix(MINI, SONNET, 70, 0.526),
    "support triage": Mix(MINI, GPT_4O, 90, 0.846),
}
"""From 1,000 tokens in and out, ``saved`` of what GPT-4o costs for all, before the router's own cost."""


def priced(runtime: Runtime, name: str, dollars: tuple[float, float]) -> None:
    nusd_in, nusd_out = (round(price * 10**9) for price in dollars)
    model = runtime.catalog.models[name]
    prices = Prices(nusd_in, nusd_out, nusd_in, nusd_in)
    changed = replace(model, prices=prices, limits=Limits(rpm=None, tpm=None))
    runtime.catalog.models[name] = changed  # type: ignore[index]


def nusd(tokens: tuple[int, int], dollars: tuple[float, float]) -> int:
    """What a call costs, from dollars per million tokens."""
    return round(1_000 * (tokens[0] * dollars[0] + tokens[1] * dollars[1]))


@pytest.mark.parametrize("name", MIXES)
def test_a_routed_mix_costs_what_prices_and_routes_give(
    tmp_path: Path, vendor_server: VendorServer, name: str
) -> None:
    mix = MIXES[name]
    tiers = {"economy": ["gpt-4o-mini"], "premium": ["gpt-4o"]}
    runtime = make_runtime(tmp_path / "home", vendor_server, tiers=tiers, concurrency=16)
    priced(runtime, "gpt-4o-mini", mix.cheap)
    priced(runtime, "gpt-4o", mix.dear)

    def decide(call: Call) -> Fault:
        if b"ROUTE it" not in call.raw:
            return completed(call, ANSWER, ANSWER_TOKENS)
        label = "complex" if "a complex case" in call.text else "simple"
        return completed(call, label, ROUTE_TOKENS)

    vendor_server.on_call(decide)
    kinds = ["simple"] * mix.simple + ["complex"] * (100 - mix.simple)
    filler = "It is about a bill, a delivery and a lost parcel. " * 90
    texts = {f"d{n:03}": f"a {kind} case, number {n}. {filler}" for n, kind in enumerate(kinds)}
    job = make_job(runtime, texts, task=TASK, model=None, ladder=LADDER)
    assert run(runtime, job.id) is Ending.IDLE
    assert item_statuses(runtime, job.id) == {"done": 100}
    router_nusd = 100 * nusd(ROUTE_TOKENS, mix.cheap)
    answers_nusd = mix.simple * nusd(ANSWER_TOKENS, mix.cheap)
    answers_nusd += (100 - mix.simple) * nusd(ANSWER_TOKENS, mix.dear)
    assert router_nusd / 100 == pytest.approx(0.0001e9, rel=0.01)
    assert spent(runtime) == router_nusd + answers_nusd
    all_gpt_4o = 100 * nusd(ANSWER_TOKENS, GPT_4O)
    assert 1 - answers_nusd / all_gpt_4o == pytest.approx(mix.saved, abs=0.001)
    assert 1 - spent(runtime) / all_gpt_4o == pytest.approx(mix.saved - 0.008, abs=0.001)
    assert reserved(runtime) == 0
    runtime.store.close()


def completed(call: Call, text: str, tokens: tuple[int, int]) -> Fault:
    """An answer for which the vendor counts so many tokens."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": f"chatcmpl-{call.digest}",
        "object": "chat.completion",
        "created": 1,
        "model": call.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
        },
    }
    return Fault(status=200, body=body, times=None)


def test_of_a_staged_task_the_first_step_is_routed(tmp_path: Path, vendor_server: VendorServer) -> None:
    task = STAGED.replace("import Stage, Task,", "import Router, Rule, Stage, Task,").replace(
        "max_output_tokens=100),",
        "max_output_tokens=100, ladder=('economy', 'premium')),",
    )
    task = task.replace(
        'name="staged",',
        'name="staged", entry=[Rule(tier="premium", matches="000[0-4]")], router=Router(tier="economy", '
        'prompt="ROUTE it", routes={"simple": "economy", "complex": "premium"}),',
    )
    tiers = {"economy": ["gpt-4o-mini"], "premium": ["gpt-4o"]}
    runtime = make_runtime(tmp_path / "home", vendor_server, tiers=tiers, concurrency=16)
    vendor_server.on_call(
        lambda call: (
            Fault(text="complex" if "0009" in call.text else "simple", times=None)
            if b"ROUTE it" in call.raw
            else None
        )
    )
    job = staged_job(runtime, write_task(tmp_path / "task", task), write_table(tmp_path / "t.jsonl", 20))
    assert run(runtime, job.id) is Ending.IDLE
    assert documents(runtime, job) == {"done": 20}
    extract, last = steps(runtime, job)
    made = Counter((row.job_id, row.purpose, row.tier) for row in rows(runtime, "attempts"))
    assert made == {
        (extract.id, "route", "economy"): 15,
        (extract.id, "answer", "economy"): 14,
        (extract.id, "answer", "premium"): 6,
        (last.id, "answer", "premium"): 20,
    }
    assert spent(runtime, f"job:{job.id}") == sum(row.cost_nusd for row in rows(runtime, "attempts"))
    runtime.store.close()


DOCUMENTS, KILLS, CONCURRENCY = 120, 6, 8


def test_killed_in_the_middle_no_stored_route_is_paid_for_again(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    home = tmp_path / "home"
    runtime = make_runtime(home, vendor_server)
    tiers = '[tiers]\neconomy = ["gpt-4o-mini"]\npremium = ["gpt-4o"]\n'
    config = home / "batcher.toml"
    config.write_text(f"concurrency = {CONCURRENCY}\nchunk_items = 8\n{tiers}{config.read_text()}")
    vendor_server.configure(latency_s=0.05, answers=[("ROUTE it", "complex")])
    texts = {f"d{n}": f"text number {n}" for n in range(DOCUMENTS)}
    job = make_job(runtime, texts, task=TASK, model=None, ladder=LADDER)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for _ in range(KILLS):
        child = start(home, job.id)
        vendor_server.wait_for_calls(len(vendor_server.bill) + moments.randrange(5, 60), timeout_s=60)
        child.kill()
        child.join()
        if job_of(runtime, job.id).state is JobState.DONE:
            break
    assert ended(home, job.id) == "idle"
    assert item_statuses(runtime, job.id) == {"done": DOCUMENTS}, f"seed {seed}"
    made = rows(runtime, "attempts")
    routed = Counter(row.item_id for row in made if row.purpose == "route" and row.outcome == "ok")
    assert len(routed) == DOCUMENTS
    assert set(routed.values()) == {1}, f"seed {seed}: a stored route was paid for again"
    answered = Counter(row.item_id for row in made if row.purpose == "answer" and row.outcome == "ok")
    assert (len(answered), set(answered.values())) == (DOCUMENTS, {1})
    assert {row.tier for row in made if row.purpose == "answer"} == {"premium"}
    assert not any(row.purpose == "escalation" for row in made)
    assert len(vendor_server.bill) - 2 * DOCUMENTS <= KILLS * 2 * CONCURRENCY
    assert spent(runtime) == sum(row.cost_nusd for row in made)
    assert reserved(runtime) == 0
    runtime.store.close()
