"""``batcher worker`` with settings that it cannot work with: said at once, in one line, with exit code 3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batcher.cli import main

AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BATCHER_BROKER_URL", AWAY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_metrics_without_their_package_are_refused_before_any_process_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_METRICS_PORT", "9464")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["worker"]) == 3
    said = capsys.readouterr().err
    assert "pip install 'batcher[metrics]'" in said
    assert said.count("\n") == 1


def test_plain_celery_refuses_metrics_without_their_package(folder: Path) -> None:
    (folder / "prometheus_client.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[3])])
    arguments = ["-A", "workers.app", "--quiet", "worker", "-Q", "batcher.tier.economy"]
    ended = subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env=os.environ | {"BATCHER_METRICS_PORT": "9464", "PYTHONPATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    [line] = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    assert (line["level"], "pip install 'batcher[metrics]'" in line["message"]) == ("critical", True)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("url", ["memory://", "sentinel://127.0.0.1:1", "etcd://127.0.0.1:1"])
@pytest.mark.parametrize(
    "words",
    [["worker"], ["workers"], ["submit", ".", "--task", "enrichment", "--detach"]],
    ids=lambda w: w[0],
)
def test_a_broker_that_cannot_be_used_is_one_line(
    words: list[str], url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_BROKER_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-used-0000")
    assert main(words) == 3
    said = capsys.readouterr().err
    assert said.startswith("Error: BATCHER_BROKER_URL ")
    assert said.count("\n") == 1


def test_a_worker_finds_what_of_a_url_is_wrong_only_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_BROKER_URL", "sqla+nonsense://127.0.0.1")
    assert main(["worker"]) == 3
    assert "BATCHER_BROKER_URL cannot be used: Can't load plugin" in capsys.readouterr().err
