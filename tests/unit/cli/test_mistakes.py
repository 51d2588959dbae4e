"""Every mistake that can be seen before the corpus is read is told in plain words, with the right code."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.cli import main

TASK = """
from pydantic import BaseModel
from batcher.tasks import Task, scorers

class Answer(BaseModel):
    title: str

task = Task(name="cards", version=1, prompt="Card.", output=Answer, scorer=scorers.exact, tier="standard")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TOGETHER_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-used-0000")
    monkeypatch.setenv("BATCHER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "nothing", "cards"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "a.txt").write_text("A text about rivers.")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    (tmp_path / "rows.csv").write_text("number\n1\n")
    (tmp_path / "cards" / "task.py").write_text(TASK)
    (tmp_path / "broken.py").write_text("raise ValueError('oops')")
    (tmp_path / "lofty.py").write_text(TASK.replace("standard", "heaven"))
    return tmp_path


SUBMIT = ["submit", "docs", "--task", "./cards"]
LEARN = ["ladder", "learn", "--task", "./cards", "--accuracy", "0.9", "--golden"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["submit", "docs", "--task", "card"], 2, "no task 'card'"),
        ([*SUBMIT, "--param", "x=1"], 2, "no parameter 'x'"),
        ([*SUBMIT, "--param", "x"], 2, "NAME=VALUE"),
        ([*SUBMIT, "--tier", "gold"], 2, "no tier 'gold'"),
        ([*SUBMIT, "--model", "gpt-4o-minni"], 2, "gpt-4o-mini"),
        ([*SUBMIT, "--model", "gpt-4o-mini", "--tier", "local"], 2, "not on tier local"),
        ([*SUBMIT, "--model", "claude-haiku-4-5"], 3, "ANTHROPIC_API_KEY"),
        ([*SUBMIT, "--golden", "bad.jsonl"], 2, "line 1"),
        ([*SUBMIT, "--golden", "away.jsonl"], 2, "away.jsonl"),
        ([*LEARN, "away.jsonl"], 2, "--golden away.jsonl: there is no such file"),
        ([*LEARN, "bad.jsonl", "nowhere"], 2, "no file or folder 'nowhere'"),
        ([*LEARN, "bad.jsonl", "-"], 2, "Standard input cannot be read once for each model"),
        ([*SUBMIT, "--max-cost", "lots"], 2, "amount of dollars"),
        ([*SUBMIT, "--limit", "0"], 2, "--limit"),
        ([*SUBMIT, "--detach"], 2, "no broker_url is set"),
        (["submit", "nowhere", "--task", "./cards"], 2, "nowhere"),
        (["submit", "nothing", "--task", "./cards"], 2, "no documents in nothing"),
        (["submit", "rows.csv", "--task", "./cards"], 2, "text"),
        (["submit", "docs"], 2, "--task"),
        (["submit", "--task", "./cards"], 2, "PATH"),
        (["--config", "none.toml", "jobs"], 3, "none.toml"),
        (["--database", "mysql://x/y", "jobs"], 3, "sqlite"),
        (["status"], 2, "no jobs"),
        (["results", "9"], 2, "no job 9"),
        (["results", "nine"], 2, "not a valid integer"),
        (["retry", "9"], 2, "no job 9"),
        (["tasks", "show", "nope"], 2, "no task 'nope'"),
        (["tasks", "check", "nope"], 2, "no task 'nope'"),
        (["models", "list", "--tier", "gold"], 2, "no tier 'gold'"),
        (["submit", "docs", "--task", "classification"], 2, "labels=... is missing"),
        (["submit", "docs", "--task", "classification", "--param", "labels=@away.txt"], 2, "away.txt"),
        (["submit", "docs", "--task", "./away"], 2, "no file or folder"),
        (["submit", "docs", "--task", "./broken.py"], 3, "oops"),
        (["submit", "docs", "--task", "./lofty.py"], 3, "no tier 'heaven'"),
        ([*SUBMIT, "--max-cost", "1e30"], 2, "The most is 1,000,000,000"),
        ([*SUBMIT, "--max-cost", "1e999999999"], 2, "The most is 1,000,000,000"),
        ([*SUBMIT, "--limit", "9" * 23], 2, "not in the range 1<=x<=1000000000"),
        (["budget", "set", "--daily", "1e30"], 2, "The most is 1,000,000,000"),
        (["budget", "set", "--job", "9" * 20, "--max-cost", "1"], 2, "not in the range"),
        (["status", "9" * 23], 2, "not in the range"),
        (["results", "9" * 23], 2, "not in the range"),
        (["pause", "0"], 2, "not in the range"),
        (["jobs", "-n", "9" * 20], 2, "not in the range"),
        (["resume", "9"], 2, "no job 9"),
        (["pause", "9"], 2, "no job 9"),
        (["cancel", "9"], 2, "no job 9"),
        (["budget", "set"], 2, "--daily 5.00"),
        (["budget", "set", "--job", "1"], 2, "go together"),
        (["budget", "set", "--daily", "-1"], 2, "amount of dollars"),
        (["budget", "set", "--tier", "premum=1"], 2, "no tier 'premum'. Did you mean premium?"),
        (["budget", "set", "--provider", "openia=1"], 2, "no provider 'openia'. Did you mean openai"),
        (["budget", "set", "--provider", "zzz=1"], 2, "There are: "),
        (["budget", "set", "--task", "enrichmnt=1"], 2, "Did you mean enrichment?"),
        (["budget", "set", "--tier", "premium"], 2, "--tier name=1.00"),
        (["budget", "set", "--tier", "premium=much"], 2, "amount of dollars"),
        (["budget", "set", "--job", "9", "--max-cost", "1"], 2, "no job 9"),
    ],
)
def test_mistake(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert main(["jobs", "--json"]) == 0
    assert capsys.readouterr().out.strip() == "[]"


def test_no_key_at_all_names_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(SUBMIT) == 3
    said = capsys.readouterr().err
    assert "Tier standard needs a key: set ANTHROPIC_API_KEY or OPENAI_API_KEY" in said
    assert "--tier local" in said


def test_standard_input_cannot_be_left_to_a_process_in_the_background(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_BROKER_URL", "redis://127.0.0.1:6379/0")
    assert main(["submit", "-", *SUBMIT[2:], "--detach"]) == 2
    assert "standard input" in capsys.readouterr().err


def test_a_detail_of_the_settings_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_CONCURRENCY", "many")
    assert main(["jobs"]) == 3
    assert "concurrency" in capsys.readouterr().err
    assert main(["tasks", "list"]) == 0
