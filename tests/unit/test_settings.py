"""What a user sets, and what is said of what cannot be set."""

from __future__ import annotations

from pathlib import Path

import pytest

from batcher.cli import main
from batcher.errors import ConfigurationError
from batcher.settings import load_settings, unknown_variables


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("concurency = 3", "concurency: there is no such setting; did you mean concurrency?"),
        ("[models.x]\nimput = 3.0", "models.x.imput: there is no such setting; did you mean input?"),
        (
            "[providers.x]\nbaseurl = 'y'",
            "providers.x.baseurl: there is no such setting; did you mean base_url?",
        ),
        ("zzz = 1", "zzz: there is no such setting"),
        ('time_zone = "Mars"', "time_zone: 'Mars' is not an IANA time zone"),
        ('home = "/root/\\u0000"', "home: a path cannot hold the character U+0000"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_meant(folder: Path, toml: str, said: str) -> None:
    (folder / "batcher.toml").write_text(toml)
    if toml.startswith("home"):
        (folder / "batcher.toml").rename(folder / "named.toml")
    with pytest.raises(ConfigurationError) as caught:
        _load_without_home(folder) if toml.startswith("home") else load_settings()
    assert said in str(caught.value)


def _load_without_home(folder: Path) -> None:
    import os

    del os.environ["BATCHER_HOME"]
    load_settings(folder / "named.toml")


def test_a_home_that_cannot_be_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BATCHER_HOME")
    (folder / "batcher.toml").write_text('home = "/root/\\u0000"')
    assert main(["jobs"]) == 3
    assert capsys.readouterr().err.startswith("Error: Settings in ")


def test_a_folder_called_batcher_toml_is_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "batcher.toml").mkdir()
    assert main(["jobs"]) == 3
    assert "Is a directory" in capsys.readouterr().err


def test_variables_that_nothing_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_variables() == []
    monkeypatch.setenv("BATCHER_CONFIG", "x.toml")
    monkeypatch.setenv("BATCHER_TIERS", "{}")
    monkeypatch.setenv("BATCHER_FOO", "1")
    monkeypatch.setenv("BATCHER_DATABASE_URI", "sqlite:///x.db")
    assert unknown_variables() == [
        "The variable BATCHER_DATABASE_URI is read by nothing; did you mean BATCHER_DATABASE_URL?",
        "The variable BATCHER_FOO is read by nothing",
    ]
