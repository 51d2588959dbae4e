"""kill -9 while answers are drawn and judged: nothing is lost, nothing judged twice, all on the books."""

from __future__ import annotations

import random
from pathlib import Path

import orjson

from batcher.budget.ledger import job_account
from batcher.domain import JobState
from batcher.quality.estimates import read_sampled
from batcher.quality.sampling import Sampling, uniform
from batcher.store.judging import children_of
from tests.support.run_child import ended, start
from tests.support.runs import JUDGE, item_statuses, job_of, make_job, make_runtime, reserved, rows
from tests.support.vendor_server import VendorServer

DOCUMENTS = 120
KILLS = 6
CONCURRENCY = 8
SHARE, SEED = 0.3, 424242
VERDICT = orjson.dumps({"reason": "It holds.", "score": 1.0, "correct": True}).decode()


def test_killed_while_it_is_drawn_and_judged(tmp_path: Path, vendor_server: VendorServer) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    config = tmp_path / "home" / "batcher.toml"
    config.write_text(f"concurrency = {CONCURRENCY}\nchunk_items = 8\n{config.read_text()}")
    vendor_server.configure(latency_s=0.05, answers=[("You check the work of another model", VERDICT)])
    sampling = Sampling(share=SHARE, at_least=0, seed=SEED, judge=JUDGE)
    job = make_job(runtime, {f"d{n}": f"text number {n}" for n in range(DOCUMENTS)}, sampling=sampling)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for _ in range(KILLS):
        child = start(tmp_path / "home", job.id)
        vendor_server.wait_for_calls(len(vendor_server.bill) + moments.randrange(5, 40), timeout_s=60)
        child.kill()
        child.join()
        if job_of(runtime, job.id).state is JobState.DONE:
            break
    assert ended(tmp_path / "home", job.id) == "idle"
    runtime.judging.keep_up([job.id], at_once=True)
    lots = {row.id: uniform(SEED, job.id, row.result_key) for row in rows(runtime, "items")}
    expected = {row.id for row in rows(runtime, "items") if row.job_id == job.id and lots[row.id] < SHARE}
    assert item_statuses(runtime, job.id) == {"done": DOCUMENTS}, f"seed {seed}"
    assert {row.item_id for row in rows(runtime, "sampled_items")} == expected, (
        "drawn by its lot, kills or not"
    )
    verdicts = rows(runtime, "samples")
    assert {row.item_id for row in verdicts} == expected
    assert all(row.score == 1.0 for row in verdicts)
    with runtime.store.read() as connection:
        [judges] = children_of(connection, job.id)
        [paid] = runtime.ledger.balances(connection, [job_account(job.id)])
        found = read_sampled(connection, job.id)
    judged = [row for row in rows(runtime, "items") if row.job_id == judges.id]
    assert len(judged) == len(expected), "one item of the judge for each answer"
    made = rows(runtime, "attempts")
    settled = [row for row in made if row.job_id == judges.id and row.state == "settled"]
    assert len(settled) == len(expected), "no verdict was paid for twice"
    assert paid.spent_nusd == sum(row.cost_nusd for row in made)
    assert reserved(runtime) == 0
    assert found is not None
    assert found.waiting == 0
    assert found.whole is not None
    assert found.whole.interval.share == 1.0
    runtime.store.close()
