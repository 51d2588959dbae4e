"""``batcher simulate`` as a user runs it, with batcher itself against it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

READY_S = 20


@dataclass
class Simulation:
    """A running ``batcher simulate``: what it printed, and its process."""

    process: subprocess.Popen[str]
    variables: dict[str, str]

    @property
    def root(self) -> str:
        return self.variables["ANTHROPIC_BASE_URL"]

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": "Bearer k", "content-type": "application/json"}
        request = urllib.request.Request(self.root + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def stop(self, number: int = signal.SIGINT) -> str:
        """End it as Ctrl-C does; returns what it said on standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=READY_S)
        assert self.process.returncode == 0, err
        return err


Start = Callable[..., Simulation]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str | Path) -> Simulation:
        command = [sys.executable, "-W", "error", "-m", "batcher", "simulate", *map(str, words)]
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        process = subprocess.Popen(
            command, env=env, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        variables: dict[str, str] = {}
        for _ in range(5):
            line = process.stdout.readline()
            assert line.startswith("export "), process.communicate()[1]
            variables.update(re.findall(r"(\w+)=(\S+)", line))
        return Simulation(process, variables)

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run_batcher(folder: Path, variables: dict[str, str], *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "BATCHER_HOME": str(folder / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "batcher", *words],
        env=env, cwd=folder, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-mini", "claude-haiku-4-5", "llama-3.3-70b@together"],
    ids=["openai", "anthropic", "together"],
)
def test_the_printed_lines_lead_batcher_to_it_and_its_bill_is_the_ledgers(
    tmp_path: Path, start: Start, model: str
) -> None:
    bill = tmp_path / "bill.jsonl"
    simulation = start("--latency-scale", "0", "--bill", bill)
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3):
        (docs / f"{number}.txt").write_text(f"Report {number} on rivers, bridges and the towns between them.")
    run_batcher(
        tmp_path, simulation.variables, "submit", "docs", "--task", "enrichment", "--model", model, "--yes"
    )
    spend = json.loads(run_batcher(tmp_path, simulation.variables, "spend", "--json"))
    totals = simulation.ask("/_totals")
    rows = [json.loads(line) for line in bill.read_text().splitlines()]
    assert round(sum(row["cost_usd"] for row in spend) * 10**9) == totals["cost_nusd"] > 0
    assert sum(row["cost_nusd"] for row in rows) == totals["cost_nusd"]
    assert len(rows) == totals["calls"] >= 3
    assert "Served" in simulation.stop()


def test_limits_faults_and_prices_from_the_command_line(tmp_path: Path, start: Start) -> None:
    (tmp_path / "faults.toml").write_text(
        '[[faults]]\nkind = "server_500"\ncontains = "spoil me"\ntimes = 1\n'
    )
    (tmp_path / "prices.toml").write_text('[openai]\n"own" = { input = 1, output = 0 }\n')
    simulation = start(
        *("--rpm", "2", "--tpm", "100000", "--faults", "faults.toml", "--prices", "prices.toml"),
        *("--latency-scale", "0", "--token-bytes", "1", "--seed", "5"),
    )
    body = {"model": "own", "messages": [{"role": "user", "content": "hello"}]}
    assert simulation.ask("/v1/chat/completions", body)["usage"]["prompt_tokens"] == 9
    statuses = []
    for text in ("spoil me", "again"):
        body["messages"] = [{"role": "user", "content": text}]
        with pytest.raises(urllib.error.HTTPError) as caught:
            simulation.ask("/v1/chat/completions", body)
        statuses.append(caught.value.code)
        caught.value.close()
    assert statuses == [500, 429]
    assert simulation.ask("/_limits", {"rpm": 1_000})["default"]["rpm"] == 1_000
    assert simulation.ask("/_totals")["cost_nusd"] == 9_000
    err = simulation.stop(signal.SIGTERM)
    assert "Served 3 requests (1 x 200, 1 x 429, 1 x 500), charged 1 of them $0.000009" in err


def test_it_listens_on_loopback_only_and_says_when_it_cannot(start: Start, tmp_path: Path) -> None:
    simulation = start()
    port = int(simulation.root.rsplit(":", 1)[1])
    for address in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}:
        if not str(address).startswith("127."):
            with pytest.raises(ConnectionError), socket.create_connection((str(address), port), timeout=5):
                pass
    assert simulation.root.startswith("http://127.0.0.1:")
    for words, said in (
        (["--port", str(port)], "Give another --port"),
        (["--faults", "none.toml"], "Cannot read the fault script"),
        (["--bill", str(tmp_path / "no" / "bill")], "Cannot write the bill"),
        *(([option, "nan"], "not a finite number") for option in ("--rpm", "--token-bytes")),
        *(([option, "inf"], "not a finite number") for option in ("--tpm", "--latency-scale")),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "batcher", "simulate", *words],
            text=True, capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_the_bill_outlives_a_simulator_that_is_killed(tmp_path: Path, start: Start) -> None:
    simulation = start("--latency-scale", "0", "--bill", "bill.jsonl")
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    for _ in range(20):
        simulation.ask("/v1/chat/completions", body)
    simulation.process.kill()
    simulation.process.communicate()
    rows = [json.loads(line) for line in (tmp_path / "bill.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert all(row["cost_nusd"] > 0 for row in rows)


@pytest.mark.parametrize("path", ["/_limits", "/_faults", "/_config"])
@pytest.mark.parametrize("given", [5, "x", [5], {"rpm": "x"}, {"kind": "hang", "rate": "x"}, {"seed": []}])
def test_a_change_that_is_none_is_refused_and_the_next_call_is_served(
    start: Start, path: str, given: Any
) -> None:
    simulation = start("--latency-scale", "0")
    with pytest.raises(urllib.error.HTTPError) as caught:
        simulation.ask(path, given)
    assert caught.value.code == 400
    assert json.loads(caught.value.read())["error"]
    caught.value.close()
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    assert simulation.ask("/v1/chat/completions", body)["choices"]
    assert "Served 1 requests (1 x 200)" in simulation.stop()


def test_a_model_that_is_told_the_schema_in_words_answers_well(tmp_path: Path, start: Start) -> None:
    simulation = start("--latency-scale", "0")
    (tmp_path / "one.txt").write_text("Report on rivers, bridges and the towns between them.")
    run_batcher(
        tmp_path, simulation.variables, "submit", "one.txt", "--task", "enrichment",
        "--model", "llama-3.1-8b@groq", "--yes",
    )  # fmt: skip
    assert simulation.ask("/_totals")["calls"] == 1
