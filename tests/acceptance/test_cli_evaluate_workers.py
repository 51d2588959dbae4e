"""Evaluating where workers do the work: nothing starts before the cap is shared out, then they do it all."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, new_fleet
from tests.support.vendor_server import VendorProcess

EVALUATE = ("evaluate", "--task", "./cards", "--golden", "golden.jsonl", "--json")
RIGHT = json.dumps({"reason": "It is.", "score": 1.0, "correct": True})


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess) -> Iterator[Fleet]:
    """One worker of all tiers."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), vendor.openai_url) as made:
        made.worker("--tier", "economy", "--tier", "standard", "--beat")
        yield made


def test_workers_answer_for_both_models_under_the_shared_cap(fleet: Fleet, vendor: VendorProcess) -> None:
    rows = [{"id": str(n), "text": f"Known text number {n}.", "expected": {"pages": n}} for n in range(10)]
    (fleet.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    both = ("--model", "gpt-4o-mini", "--model", "gpt-4.1-mini")
    capped = fleet.batcher(*EVALUATE, *both, "--max-cost", "0.0009", code=4).json
    charged = vendor.totals()["cost_nusd"]
    assert 0 < charged <= 900_000
    assert any(model["waiting"] for model in capped["models"])
    report = fleet.batcher(*EVALUATE, *both, "--max-cost", "1").json
    assert [model["scored"] for model in report["models"]] == [10, 10]
    assert sum(model["cost_usd"] for model in report["models"]) == pytest.approx(
        vendor.totals()["cost_nusd"] / 1e9, abs=1e-8
    )
    assert vendor.totals()["calls"] == 20
    assert fleet.batcher(*EVALUATE, *both).json["models"] == report["models"]
    assert fleet.nothing_reserved_nor_unknown()


def test_what_workers_answered_they_judge_too_before_the_report(fleet: Fleet, vendor: VendorProcess) -> None:
    task = fleet.folder / "cards" / "task.py"
    code = task.read_text()
    start = code.index("scorer=")
    task.write_text(
        f'{code[:start]}scorer=scorers.judged(by="gpt-4.1-mini"),{code[code.index(",", start) + 1 :]}'
    )
    rows = [{"id": str(n), "text": f"Known text number {n}.", "expected": {"pages": n}} for n in range(5)]
    (fleet.folder / "golden.jsonl").write_text("\n".join(map(json.dumps, rows)))
    before = vendor.totals()
    report = fleet.batcher(*EVALUATE, "--model", "gpt-4o-mini").json
    [model] = report["models"]
    assert (model["scored"], model["judging"]["judged"], model["judging"]["waiting"]) == (5, 5, 0)
    assert vendor.totals()["calls"] - before["calls"] == 10
    paid_usd = (vendor.totals()["cost_nusd"] - before["cost_nusd"]) / 1e9
    assert report["spent_usd"] == pytest.approx(paid_usd, abs=1e-8)


def test_a_submission_reports_when_workers_have_judged_its_answers(
    fleet: Fleet, vendor: VendorProcess
) -> None:
    fleet.table("drawn", 12)
    vendor.configure(latency_s=0.1, answers=[["You check the work of another model", RIGHT]])
    before = vendor.totals()["cost_nusd"]
    submit = ("submit", "drawn.jsonl", "--task", "./cards", "--sample", "1", "--judge", "gpt-4.1-mini")
    told = fleet.batcher(*submit, "--json")
    judging = told.json["judging"]
    assert (judging["judged"], judging["waiting"]) == (12, 0)
    assert told.json["cost_usd"] == pytest.approx((vendor.totals()["cost_nusd"] - before) / 1e9, abs=1e-8)
    assert told.json["digest"]["spent_in_run_usd"] == told.json["cost_usd"]
    assert "Workers judge the answers: job 2 (gpt-4.1-mini)." in told.err
    assert told.json["digest"]["done_in_run"] == 12
