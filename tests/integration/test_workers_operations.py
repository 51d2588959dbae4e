"""What operators see of workers: Prometheus, Flower, ``batcher workers``, ``batcher doctor``."""

from __future__ import annotations

import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.domain import JobState
from tests.support.fleet import Child, Fleet, wait_until
from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorProcess


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def flower_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, vendor: VendorProcess, port: int, flower_port: int
) -> Iterator[Fleet]:
    """Flower, then a worker with a port for Prometheus, which has done a job whose one document failed."""
    folder = tmp_path_factory.mktemp("fleet")
    with RedisServer(folder) as redis:
        made = Fleet.make(
            folder,
            broker_url=redis.url,
            store_url=f"sqlite:///{folder / 'store.db'}",
            openai_url=vendor.openai_url,
            BATCHER_METRICS_PORT=str(port),
        )
        flower = [sys.executable, "-m", "celery", "-A", "workers.app", "flower", "--address=127.0.0.1"]
        # Flower and its web server warn of themselves; what is asked here is whether it works.
        made.run([*flower, f"--port={flower_port}"], "flower", PYTHONWARNINGS="")
        made.worker("--tier", "economy")
        vendor.add_fault(status=400, contains="Row 1 of docs", times=None)
        made.table("docs", 10)
        made.batcher("submit", "docs.jsonl", "--task", "./cards", code=1)
        assert made.job(1).state is JobState.DONE
        yield made
        made.end()


def fetch(url: str) -> str:
    """What a page says; "" while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def test_prometheus_reads_counters_caps_and_queues_from_a_worker(fleet: Fleet, port: int) -> None:
    text = fetch(f"http://127.0.0.1:{port}/metrics")
    values = dict(re.findall(r"^(batcher_\S+) (\S+)$", text, flags=re.M))
    assert values['batcher_documents_total{status="done"}'] == "9.0"
    assert values['batcher_documents_total{status="failed"}'] == "1.0"
    assert values['batcher_attempts_total{outcome="ok"}'] == "9.0"
    assert values['batcher_attempts_total{outcome="bad_request"}'] == "1.0"
    assert float(values['batcher_tokens_total{direction="input"}']) > 9
    assert 0 < float(values["batcher_spend_usd_total"]) < 0.01
    assert values["batcher_calls_in_flight"] == "0.0"
    assert values['batcher_queue_messages{tier="economy"}'] == "0.0"
    spent = float(values['batcher_budget_spent_usd{scope="day"}'])
    left = float(values['batcher_budget_left_usd{scope="day"}'])
    assert spent + left == pytest.approx(float(values['batcher_budget_cap_usd{scope="day"}']))
    assert set(re.findall(r"^# TYPE batcher_limiter_waits (\w+)", text, flags=re.M)) == {"gauge"}


def test_the_documented_metrics_are_those_that_there_are(fleet: Fleet, port: int) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "production.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"`(batcher_[a-z_]+)", page)) - {"batcher_status"}
    text = fetch(f"http://127.0.0.1:{port}/metrics")
    assert shown <= set(re.findall(r"^# TYPE (\S+)", text, flags=re.M))


def test_flower_shows_the_workers(fleet: Fleet, flower_port: int) -> None:
    flower: Child = fleet.started[0]
    name = fleet.batcher("workers", "--json").json[0]["worker"]
    page = f"http://127.0.0.1:{flower_port}/workers"
    wait_until(lambda: name in fetch(page), 30, lambda: (fetch(page), flower.log))


def test_doctor_knows_who_would_do_the_work(fleet: Fleet) -> None:
    findings = fleet.batcher("doctor", "--json").json["findings"]
    [workers] = [finding for finding in findings if finding["part"] == "workers"]
    assert workers["ok"]
    assert workers["message"] == "one process answers, on economy"
    [broker] = [finding for finding in findings if finding["part"] == "broker"]
    assert broker["ok"]


def test_a_worker_says_what_it_waits_for(fleet: Fleet, vendor: VendorProcess) -> None:
    vendor.add_fault(status=429, headers={"retry-after": "30"}, times=None)
    fleet.table("limited", 6)
    fleet.batcher("submit", "limited.jsonl", "--task", "./cards", "--detach")
    job = fleet.job_of("limited.jsonl")
    wait_until(lambda: fleet.job(job).waiting_reason)
    [worker] = fleet.batcher("workers", "--json").json
    assert "rate_limited" in worker["waiting"]
    assert worker["jobs"] == [job]
    fleet.batcher("cancel", job)
    wait_until(lambda: not {"leased", "pending"} & set(fleet.counts(job)))
