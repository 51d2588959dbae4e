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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:s3cret@127.0.0.1:99999/0", "its host or port cannot be read"),
        ("redis://:s3c/ret@127.0.0.1:6379/0", "its host or port cannot be read"),
        ("redis://:s3cret@[::1/0", "its host or port cannot be read"),
        ("redis://", "it names no host"),
        ("rediss:///0", "it names no host"),
        ("redis://s3cret.example:6379/main", "what follows the port is no database's number"),
        ("unix://", "it names no socket"),
        ("s3cret", "it is no URL: it has no scheme"),
        ("127.0.0.1:6379", "it is no URL: it has no scheme"),
    ],
)
def test_a_broker_that_cannot_be_one_is_told_without_its_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    monkeypatch.setenv("BATCHER_BROKER_URL", url)
    assert main(["jobs"]) == 3
    told = capsys.readouterr().err
    assert f"broker_url: {said}" in told
    assert "It looks like redis://:PASSWORD@HOST:6379/0" in told
    assert "s3c" not in told
    assert "99999" not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "rediss://:p%23ss@redis.example",
        "unix:///run/redis.sock?db=1",
        "amqp://guest:guest@rabbit//",
        "sentinel://one:26379;sentinel://two:26379",
    ],
)
def test_a_broker_that_can_be_one_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BATCHER_BROKER_URL", url)
    broker = load_settings().broker_url
    assert broker is not None
    assert broker.get_secret_value() == url


def test_an_empty_broker_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "batcher.toml").write_text('broker_url = "redis://127.0.0.1:6379/0"')
    monkeypatch.setenv("BATCHER_BROKER_URL", "")
    assert load_settings().broker_url is None


def test_a_database_without_a_number_for_a_port_is_told_without_its_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BATCHER_DATABASE_URL", "postgresql://me:pass@word:s3cret@host/db")
    assert main(["jobs"]) == 3
    told = capsys.readouterr().err
    assert "The database URL has no number for a port" in told
    assert "s3cret" not in told


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


def test_alert_urls_come_from_the_file_the_variable_or_the_env_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = "mailto://me:s3cr3t@example.org?to=a@example.org,b@example.org", "slack://A/B/C"
    assert load_settings().alert_targets() == []
    (folder / "keys.env").write_text(f'BATCHER_ALERT_URLS="{one}\n{two}"')
    (folder / "batcher.toml").write_text(f'env_file = "{folder / "keys.env"}"')
    assert load_settings().alert_targets() == [one, two]
    (folder / "batcher.toml").write_text(f'alert_urls = ["{two}", " {one}", "{two}"]')
    assert load_settings().alert_targets() == [two, one]
    monkeypatch.setenv("BATCHER_ALERT_URLS", f"{one}, {two}")
    assert load_settings().alert_targets() == [one, two]
    assert "s3cr3t" not in repr(load_settings())


def test_a_wrong_list_of_alert_urls_is_told_without_them(folder: Path) -> None:
    (folder / "batcher.toml").write_text('alert_urls = [["slack://s3cr3t"]]')
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "alert_urls.0" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_every_alert_rule_can_be_switched() -> None:
    from typing import get_args

    from batcher.alerts.book import Rule
    from batcher.settings import AlertRule

    assert {*get_args(AlertRule)} == {rule.value for rule in Rule} - {"test"}


def test_a_crash_shows_no_part_of_an_alert_url() -> None:
    from batcher.cli.crash import hide_secrets

    settings = load_settings(alert_urls=["json://user:passw0rd@127.0.0.1/token-123?x=1"])
    told = hide_secrets("at 127.0.0.1/token-123 with user:passw0rd", settings)
    assert told == "at 127.0.0.1/[key] with user:[key]"


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("sk-abc123\r", "a line end"),
        ("sk-a\nb", "a line end"),
        ("sk-a\x07b", "a control character"),
        ("sk-\xfcmlaut", "a character that is not ASCII"),
    ],
)
def test_a_key_that_cannot_be_sent_is_named_by_its_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, what: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    (folder / "a.txt").write_text("Rivers.")
    assert main(["submit", "a.txt", "--task", "enrichment", "--model", "gpt-4o-mini", "--yes"]) == 3
    told = capsys.readouterr()
    assert f"The key in OPENAI_API_KEY holds {what}, which no key does" in told.err
    assert "sk-" not in told.out + told.err
    assert main(["jobs"]) == 0
    assert "gpt-4o-mini" not in capsys.readouterr().out


def test_doctor_names_a_key_that_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ANTHROPIC_API_KEY", "TOGETHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc123\r")
    main(["doctor"])
    told = capsys.readouterr().out
    assert "The key in OPENAI_API_KEY holds a line end" in told
    assert "sk-" not in told
    assert "connection" not in told
