"""A router and the model that does the work fail apart from each other, though they are one model."""

from __future__ import annotations

import asyncio

import pytest

from batcher.catalog.loading import build_catalog
from batcher.domain import FailureClass, JobState
from batcher.engine.entry import EntryRouter
from batcher.engine.lane import Lane, LaneFactory
from batcher.engine.traffic import Traffic
from batcher.limits.breaker import FAILURES, OPEN_S
from batcher.limits.memory import MemoryLimiter
from batcher.providers.openai_chat import OpenAIChat
from batcher.settings import Settings
from batcher.store.jobs import Job
from batcher.tasks import Router, Task, scorers
from tests.support.runs import MODEL, Verdict
from tests.unit.limits.simulated_time import LoopClock, run_in_simulated_time

OTHER = "gpt-4.1-mini"
LADDER = ("economy", "premium")


def lane_of(router_tier: str, economy: tuple[str, ...] = (MODEL,)) -> tuple[Lane, EntryRouter]:
    """A lane on ``economy`` with its router on a tier."""
    task = Task(
        name="verdict", version=1, prompt="Say what it is.", output=Verdict, scorer=scorers.exact,
        tier="economy", ladder=LADDER, max_output_tokens=100,
        router=Router(tier=router_tier, prompt="ROUTE it", routes={"a": "economy", "b": "premium"}),
    )  # fmt: skip
    job = Job(
        id=1, task=task.name, paths=(), source_options="{}", spec=task.spec({}).to_json(), tier="economy",
        pinned_model=None, ladder=LADDER, accepts=(MODEL,), refresh=False, state=JobState.RUNNING,
        reason=None, resume_at=None, max_cost_nusd=None, estimate=None, waiting_reason=None, created_at=0.0,
        started_at=None, finished_at=None,
    )  # fmt: skip
    client = OpenAIChat("http://127.0.0.1:9", None, limit_field="max_tokens", strict=False, max_connections=1)
    tiers = {"economy": list(economy), "other": [OTHER], "premium": ["gpt-4o"]}
    lanes = LaneFactory(
        build_catalog(Settings(tiers=tiers)),
        lambda _: client,
        lambda _: "",
        lambda _: True,
        lambda _: task,
        5.0,
    )
    lane = lanes.lane(job, "economy")
    assert lane.router is not None
    return lane, lane.router


def fail(traffic: Traffic, lane: Lane, failures: int = FAILURES) -> None:
    for _ in range(failures):
        traffic.learn(lane.first, FailureClass.TRANSIENT, None, {}, 500, 0.1)


def new_traffic() -> Traffic:
    return Traffic(MemoryLimiter({}, LoopClock()), 4, LoopClock())


def models(router: EntryRouter, traffic: Traffic, lane: Lane) -> list[str]:
    return [binding.model.name for binding in router.ready(traffic, lane)]


def test_a_router_that_fails_opens_no_circuit_of_the_model_that_does_the_work() -> None:
    async def main() -> tuple[list[str], float]:
        traffic, (lane, router) = new_traffic(), lane_of("economy")
        fail(traffic, router.lane, 100)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await traffic.pick(lane.bindings) is lane.first
        return models(router, traffic, lane), loop.time() - started

    assert run_in_simulated_time(main) == ([], 0)


def test_a_router_that_works_hides_no_failures_of_the_model_that_does_the_work() -> None:
    async def main() -> int:
        traffic, (lane, router) = new_traffic(), lane_of("economy")
        for _ in range(FAILURES):
            fail(traffic, lane, 1)
            traffic.learn(router.lane.first, None, None, {}, 200, 0.1)
        return traffic.openings(lane.first)

    assert run_in_simulated_time(main) == 1


@pytest.mark.parametrize(("router_tier", "is_ready"), [("economy", False), ("other", True)])
def test_whether_a_model_has_recovered_is_found_out_by_those_who_work_with_it(
    router_tier: str, is_ready: bool
) -> None:
    async def main() -> list[list[str]]:
        traffic, (lane, router) = new_traffic(), lane_of(router_tier)
        workers = lane_of("economy", (router.lane.first.model.name,))[0]
        found = [models(router, traffic, lane)]
        fail(traffic, workers)
        found.append(models(router, traffic, lane))
        await asyncio.sleep(OPEN_S)
        found.append(models(router, traffic, lane))
        assert await traffic.pick(workers.bindings) is workers.first
        traffic.learn(workers.first, None, None, {}, 200, 0.1)
        found.append(models(router, traffic, lane))
        return found

    name = MODEL if router_tier == "economy" else OTHER
    assert run_in_simulated_time(main) == [[name], [], [name] if is_ready else [], [name]]


def test_a_stand_in_routes_while_the_first_model_recovers() -> None:
    async def main() -> list[list[str]]:
        traffic, (lane, router) = new_traffic(), lane_of("economy", (MODEL, OTHER))
        fail(traffic, lane)
        found = [models(router, traffic, lane)]
        await asyncio.sleep(OPEN_S)
        found.append(models(router, traffic, lane))
        lane.stop(lane.first, "its account is blocked: nobody finds out any more")
        return [*found, models(router, traffic, lane)]

    assert run_in_simulated_time(main) == [[OTHER], [OTHER], [MODEL, OTHER]]


def test_while_one_call_finds_out_whether_a_router_is_back_no_other_document_waits_for_it() -> None:
    async def main() -> list[list[str]]:
        traffic, (lane, router) = new_traffic(), lane_of("other")
        fail(traffic, router.lane)
        await asyncio.sleep(OPEN_S)
        found = [models(router, traffic, lane)]
        assert await traffic.pick(router.ready(traffic, lane)) is router.lane.first
        found.append(models(router, traffic, lane))
        traffic.learn(router.lane.first, None, None, {}, 200, 0.1)
        return [*found, models(router, traffic, lane)]

    assert run_in_simulated_time(main) == [[OTHER], [], [OTHER]]


def test_a_router_s_call_that_waits_for_its_turn_is_held_back_if_the_model_fails_meanwhile() -> None:
    async def main() -> tuple[int, int]:
        traffic, (lane, router) = new_traffic(), lane_of("economy")
        before = traffic.openings(router.lane.first)
        fail(traffic, lane)
        return before, traffic.openings(router.lane.first)

    assert run_in_simulated_time(main) == (0, 1)
