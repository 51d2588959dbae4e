"""The last resort: one line and an exit code for whatever goes wrong, keys in none of it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from batcher.cli import main, root
from batcher.cli.crash import hide_secrets
from batcher.cli.lazy import LazyCommand
from batcher.errors import ConfigurationError, DependencyError
from batcher.settings import Settings

KEY = "sk-secret-0123456789"

raised: list[BaseException] = []


@click.command("fail")
def fail() -> None:
    """Raises what the test put down."""
    raise raised[-1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sys

    monkeypatch.setitem(sys.modules, "failing_command", sys.modules[__name__])
    monkeypatch.setitem(root.COMMANDS, "fail", LazyCommand("failing_command:fail", "Fails."))
    monkeypatch.setenv("BATCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def _run(error: BaseException, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    raised.append(error)
    code = main([*options, "fail"])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(DependencyError("The store is away."), 5), (ConfigurationError("It has no key."), 3)],
)
def test_own_errors_are_one_line_with_their_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(error, capsys) == (code, f"Error: {error}\n")


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _run(KeyboardInterrupt(), capsys)
    assert (code, said.strip()) == (130, "Interrupted.")


class _InterruptedError(DependencyError):
    """Ctrl-C comes while it is told."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_while_an_error_is_told_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _run(_InterruptedError(), capsys)
    assert (code, said.strip()) == (130, "Interrupted.")


def test_an_unexpected_error_is_a_line_and_a_log_without_keys(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _run(RuntimeError(f"refused {KEY}\nsecond line"), capsys)
    assert code == 1
    assert said.startswith("Error: something went wrong inside batcher: RuntimeError: refused [key]\n")
    assert str(home / "batcher.log") in said
    assert "Traceback" not in said
    log = (home / "batcher.log").read_text()
    assert "Traceback" in log
    assert "second line" in log
    assert KEY not in log
    assert "[key]" in log
    assert (home / "batcher.log").stat().st_mode & 0o777 == 0o600


def test_verbose_shows_the_traceback_without_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _run(RuntimeError(f"refused {KEY}"), capsys, "-v")
    assert code == 1
    assert "Traceback" in said
    assert KEY not in said


def test_a_home_that_cannot_be_written_does_not_hide_the_error(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    home.write_text("a file where the folder should be")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    code, said = _run(RuntimeError("oops"), capsys)
    assert code == 1
    [log] = temporary.iterdir()
    assert log.name != "batcher.log"
    assert str(log) in said
    assert log.stat().st_mode & 0o777 == 0o600
    temporary.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "away"))
    assert "batcher -v" in _run(RuntimeError("oops"), capsys)[1]


def test_a_broken_catalogue_does_not_let_keys_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        models={"x": {"provider": "nobody"}}, database_url="postgresql://me:pass%40word@host/db"
    )
    text = hide_secrets(f"{KEY} pass%40word pass@word", settings)
    assert text == "[key] [key] [key]"


def test_click_errors_are_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spend", "--by", "moon"]) == 2
    assert "Invalid value for '--by'" in capsys.readouterr().err
