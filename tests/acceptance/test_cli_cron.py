"""Starts that nobody watches: one at a time, log lines, exit codes, the digest, the manual's own lines."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.alert_channels import Webhook
from tests.support.vendor_server import VendorServer

from .conftest import KEY, Cli, Outcome

SUBMIT = ("submit", "docs", "--task", "./cards", "--wait", "--yes")
MANUAL = Path(__file__).resolve().parents[2] / "docs" / "cron.md"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO|WARNING|ERROR) \S.*")


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def count(cli: Cli, table: str) -> int:
    try:
        with sqlite3.connect(f"file:{cli.home / 'batcher.db'}?mode=ro", uri=True) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def many_rows(cli: Cli, rows: int = 30_000) -> tuple[str, ...]:
    """A corpus whose reading takes seconds, and which is not allowed to cost anything."""
    text = "".join(f'{{"id": {n}, "text": "row {n} of many"}}\n' for n in range(rows))
    (cli.folder / "many.jsonl").write_text(text)
    return ("submit", "many.jsonl", "--task", "./cards", "--max-cost", "0", "--yes")


def block(mark: str, page: Path = MANUAL) -> str:
    """The fenced block below a mark in the manual."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", page.read_text(), flags=re.S)
    assert found is not None
    return found[1]


def test_two_starts_never_work_at_once_not_even_while_the_corpus_is_read(cli: Cli) -> None:
    words = many_rows(cli)
    first = cli.start(*words)
    wait_for(lambda: count(cli, "items") > 0)
    second = cli(*words, code=1)
    assert first.poll() is None
    assert count(cli, "jobs") == 1
    assert re.search(rf"being run right now by process {first.pid} on \S+, since \d{{4}}-", second.err)
    assert len(second.err.splitlines()) == 1
    assert LINE.fullmatch(second.err.strip())
    assert "nothing to resume" in cli("resume").err
    told = cli(*words, "--json", code=1).json
    assert told["exit_code"] == 1
    assert f"process {first.pid} " in told["error"]
    assert cli("submit", "cards", "--task", "./cards", "--max-cost", "0", code=None).code != 1
    first.communicate(timeout=60)
    assert first.returncode == 4


def test_a_killed_start_leaves_no_lock(cli: Cli) -> None:
    words = many_rows(cli)
    first = cli.start(*words)
    wait_for(lambda: count(cli, "items") > 0)
    first.kill()
    first.communicate()
    [lock] = (cli.home / "locks").iterdir()
    assert str(first.pid) in lock.read_text()
    assert (lock.stat().st_mode & 0o777, lock.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    outcome = cli(*words, "--json", code=4)
    assert "Taking up job 1" in outcome.err
    assert outcome.json["items"] == 30_000


def test_of_many_starts_at_one_time_each_document_is_paid_once(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(12)
    vendor_server.configure(latency_s=0.3)
    starts = [cli.start(*SUBMIT) for _ in range(5)]
    ends = [start.communicate(timeout=60) for start in starts]
    codes = [start.returncode for start in starts]
    assert set(codes) <= {0, 1}
    assert codes.count(0) >= 1
    assert all("right now by" in err for (_, err), code in zip(ends, codes, strict=True) if code == 1)
    assert vendor_server.totals()["calls"] == 12


def test_the_log_is_lines_with_time_and_level_and_the_digest_is_all_of_the_output(cli: Cli) -> None:
    cli.documents(5)
    outcome = cli(*SUBMIT)
    lines = outcome.err.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert "\r" not in outcome.err + outcome.out
    assert "\x1b" not in outcome.err + outcome.out
    messages = [line.split(" ", 2)[2] for line in lines]
    assert "Job 1: 5 documents read." in messages
    [start] = [message for message in messages if message.startswith("job 1 starts: 0 of 5 done")]
    [end] = [message for message in messages if message.startswith("job 1 done: 5 done; took ")]
    assert messages.index(start) < messages.index(end)
    assert outcome.out.startswith("Job 1 done: cards on tier economy, 5 documents\n  run  ")
    assert "  done      5 (5 in this run)\n" in outcome.out
    assert "of $5.00 spent" in outcome.out
    assert len(outcome.out.splitlines()) <= 15


def test_the_log_as_json(cli: Cli) -> None:
    (cli.documents(2) / "empty.txt").write_text("")
    outcome = cli(*SUBMIT, "--log-format", "json", code=1)
    lines = [json.loads(line) for line in outcome.err.splitlines()]
    assert all(set(line) == {"time", "level", "message"} for line in lines)
    assert lines[-1]["level"] in {"INFO", "WARNING"}
    assert any(line["message"].startswith("job 1 done: 2 done, 1 rejected") for line in lines)


def test_errors_before_there_is_a_job_are_one_line_with_their_code(cli: Cli) -> None:
    cli.documents(1)
    database = cli.folder / "damaged.db"
    database.write_bytes(b"this is no database" * 100)
    cases: list[tuple[tuple[str, ...], dict[str, str], int]] = [
        (("--database", f"sqlite:///{database}", *SUBMIT), {}, 5),
        (("--database", "postgresql://nobody@127.0.0.1:9/none", *SUBMIT), {}, 5),
        ((*SUBMIT, "--tier", "nowhere"), {}, 2),
        ((*SUBMIT, "--finish-by", "soon"), {}, 2),
        ((*SUBMIT, "--finish-by", "2020-01-01T06:00"), {}, 2),
        (SUBMIT, {"OPENAI_API_KEY": ""}, 3),
        (SUBMIT, {"BATCHER_CONCURRENCY": "none"}, 3),
    ]
    whole = dict(cli.env)
    for words, env, code in cases:
        cli.env = whole | env
        outcome = cli(*words, code=code)
        assert outcome.out == ""
        if code != 3 or "CONCURRENCY" not in str(env):  # settings are named one to a line
            assert len(outcome.err.splitlines()) == 1, outcome.err
    cli.env = whole
    assert count(cli, "jobs") == 0


def test_a_job_that_its_user_paused_is_left_alone_until_he_resumes_it(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(6)
    cli("budget", "set", "--daily", "0.0006")
    cli(*SUBMIT, code=4)
    calls = vendor_server.totals()["calls"]
    cli("pause", 1)
    cli("budget", "set", "--daily", "5.00")
    outcome = cli(*SUBMIT, code=1)
    assert "Job 1 of this request is paused by user, and stays so" in outcome.err
    assert "batcher resume 1" in outcome.err
    assert outcome.out == ""
    assert vendor_server.totals()["calls"] == calls
    screen, code = cli.on_terminal([*SUBMIT], b"")
    assert "Taking up job 1, which was paused (paused by user)" in screen
    assert code == 0
    assert cli("status", 1, "--json").json["items"]["done"] == 6


def test_a_price_that_was_not_agreed_to_is_not_agreed_to_by_cron(cli: Cli) -> None:
    cli.documents(2)
    cli.env["BATCHER_CONFIRM_ABOVE_USD"] = "0.000001"
    _, code = cli.on_terminal(["submit", "docs", "--task", "./cards"], b"n\n")
    assert code == 1
    assert "the price was not agreed to" in cli(*SUBMIT, code=1).err
    cli("cancel", 1)
    assert cli(*SUBMIT, "--json").json["job_id"] == 2


def test_what_a_shutdown_interrupted_the_next_start_takes_up(cli: Cli, vendor_server: VendorServer) -> None:
    cli.documents(30)
    vendor_server.configure(latency_s=0.2)
    cli.env |= {"BATCHER_CONCURRENCY": "2", "BATCHER_CHUNK_ITEMS": "2"}
    running = cli.start(*SUBMIT)
    vendor_server.wait_for_calls(3)
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "WARNING job 1 paused (interrupted)" in err
    assert "  goes on   at the next start of the same command, or with batcher resume 1" in out
    vendor_server.configure(latency_s=0.0)
    digest = cli(*SUBMIT, "--json").json["digest"]
    assert (digest["state"], digest["done"]) == ("done", 30)
    assert digest["done_in_run"] < 30
    assert vendor_server.totals()["calls"] == 30


def test_finish_by_sends_nothing_that_could_not_be_answered_and_the_next_start_goes_on(
    cli: Cli, vendor_server: VendorServer
) -> None:
    cli.documents(4)
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat(timespec="seconds")
    outcome = cli(*SUBMIT, "--finish-by", soon, "--json", code=1)  # one call may take 120 s
    assert outcome.json["waiting_reason"] == f"finish-by {soon}: no time for another call"
    assert outcome.json["digest"]["left"]["documents"] == 4
    assert vendor_server.totals()["calls"] == 0
    assert cli("resume", "--json").json[0]["done"] == 4
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%H:%M")
    cli.documents(6)
    assert cli(*SUBMIT, "--finish-by", later, "--json").json["done"] == 6


def test_a_rehearsal_says_how_far_a_run_would_come_by_then(cli: Cli) -> None:
    limits = "rpm = 60\ntpm = 1000000000\n"
    (cli.home / "batcher.toml").write_text(
        f'[tiers]\neconomy = ["gpt-4o-mini"]\n[models.gpt-4o-mini]\n{limits}'
    )
    rows = (json.dumps({"text": f"Document {number} about rivers."}) for number in range(900))
    (cli.folder / "corpus.jsonl").write_text("\n".join(rows))
    by = (datetime.now(UTC) + timedelta(minutes=10)).isoformat(timespec="seconds")
    words = ("submit", "corpus.jsonl", "--task", "./cards", "--rehearse", "--finish-by", by, "--json")
    found = cli(*words, code=1).json
    assert (found["state"], found["reason"]) == ("paused", f"finish-by {by}: no time for another call")
    assert 500 < found["done"] <= 601
    assert found["open"] == 900 - found["done"]


def as_cron(home: Path, crontab: str) -> Outcome:
    """Run a crontab's one line as cron does: with the crontab's variables, in HOME, and with no others."""
    *variables, line = [text for text in crontab.splitlines() if text and not text.startswith("#")]
    command = line.split(maxsplit=5)[5].replace(r"\%", "%")
    given = ["HOME=" + str(home), "LOGNAME=someone", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", *variables]
    process = subprocess.run(
        ["/usr/bin/env", "-i", *given, "/bin/sh", "-c", command],
        cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Outcome(process.returncode, process.stdout, process.stderr)


def two_zones() -> tuple[str, str]:
    """Zones in which it is one day now and a later day, and in which it will not be six before the test ends.

    Going from one to the other is midnight, for a store whose clock is the machine's own.
    """
    for behind, ahead in ((12, 14), (10, 14), (12, 12)):
        names = f"Etc/GMT+{behind}", f"Etc/GMT-{ahead}"
        hours = [(datetime.now(UTC) + timedelta(hours=hours)).hour for hours in (-behind, ahead)]
        if not {4, 5} & set(hours):
            return names
    raise AssertionError("there is always such a pair")


@pytest.fixture
def nightly(cli: Cli, vendor_server: VendorServer) -> Path:
    """The folder that the manual's lines speak of, with its environment, documents and keys."""
    folder = Path(cli.env["HOME"]) / "nightly"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "batcher").symlink_to(Path(sys.executable).with_name("batcher"))
    (folder / "keys.env").write_text(
        f"OPENAI_API_KEY=sk-simulated\nOPENAI_BASE_URL={vendor_server.openai_url}\n"
    )
    (folder / "documents").mkdir()
    for number in range(20):
        (folder / "documents" / f"{number}.txt").write_text(f"Document {number} is about rivers.")
    configure(folder, "UTC")
    return folder


def configure(folder: Path, zone: str) -> None:
    settings = block("config").replace("Europe/Berlin", zone)
    assert zone in settings
    limits = "rpm = 1000000\ntpm = 1000000000\n"
    tiers = f'[tiers]\neconomy = ["gpt-4o-mini"]\n[models.gpt-4o-mini]\n{limits}'
    (folder / "batcher.toml").write_text(f"call_timeout_s = 20\n{settings}\n{tiers}")


def by_hand(folder: Path, *words: str) -> Outcome:
    env = {"HOME": str(folder.parent), "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        [folder / ".venv" / "bin" / "batcher", *words],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Outcome(process.returncode, process.stdout, process.stderr)


def test_the_manuals_crontab_line_runs_as_it_stands_and_goes_on_after_midnight(
    nightly: Path, vendor_server: VendorServer
) -> None:
    crontab, home = block("crontab"), nightly.parent
    day_one, day_two = two_zones()
    configure(nightly, day_one)
    assert by_hand(nightly, "budget", "set", "--daily", "0.003").code == 0

    evening = as_cron(home, crontab)
    assert evening.err == ""
    assert evening.out.startswith("Job 1 paused: enrichment on tier economy")
    assert "  reason    budget: daily cap $0.003" in evening.out
    assert " more day" in evening.out
    log = (nightly / "batcher.log").read_text()
    assert "job 1 paused (budget: daily cap" in log
    assert evening.out.splitlines()[-3:] == log.splitlines()[-3:]  # what tail adds to the mail
    done = json.loads(by_hand(nightly, "status", "1", "--json").out)["items"]["done"]
    assert 0 < done < 20
    assert as_cron(home, crontab).out.startswith("Job 1 paused")  # the same day: nothing more
    assert vendor_server.totals()["calls"] == done

    configure(nightly, day_two)
    assert by_hand(nightly, "budget", "set", "--daily", "1").code == 0
    (nightly / "documents" / "new.txt").write_text("Something else altogether.")
    morning = as_cron(home, crontab)
    assert morning.err == ""
    assert f"  done      21 ({21 - done} in this run" in morning.out
    assert "Job 1 done: enrichment on tier economy, 21 documents" in morning.out
    assert vendor_server.totals()["calls"] == 21
    days = json.loads(by_hand(nightly, "spend", "--json").out)
    assert len(days) == 2
    assert (home / ".local" / "share" / "batcher" / "locks").is_dir()


def test_the_manuals_watchdog_runs_as_it_stands_and_says_when_it_watches_nothing(nightly: Path) -> None:
    crontab, home = block("crontab", MANUAL.with_name("alerts.md")), nightly.parent
    blind = as_cron(home, crontab)
    assert "No channel is set" in blind.out, "cron mails what is on standard output"
    assert by_hand(nightly, "alerts", "send").code == 3
    with Webhook() as hook:
        settings = nightly / "batcher.toml"
        settings.write_text(f'alert_urls = ["{hook.url}"]\n{settings.read_text()}')
        by_hand(nightly, "budget", "set", "--daily", "0.000001")
        by_hand(nightly, "submit", "documents", "--task", "enrichment", "--yes")
        before = len(hook.messages)
        seeing = as_cron(home, crontab)
        assert (seeing.out, seeing.err, seeing.code) == ("", "", 0)
        assert before >= 1


def test_times_are_in_the_zone_of_the_days_and_say_so(nightly: Path) -> None:
    configure(nightly, "Pacific/Kiritimati")
    by_hand(nightly, "budget", "set", "--daily", "0.003")
    words = ("documents", "--task", "enrichment")
    plan = by_hand(nightly, "plan", *words, "--finish-by", "06:00").out
    [line] = [line for line in plan.splitlines() if line.startswith("  finish by")]
    assert " 06:00 +14: " in line
    digest = by_hand(nightly, "submit", *words, "--wait", "--yes").out
    facts = {line[2:11].strip(): line[11:].strip() for line in digest.splitlines()}
    assert " 00:00 +14 on" in facts["goes on"]
    assert facts["run"].count(" +14") == 2
    assert facts["run"].split()[0] == facts["day"].split(":")[0]
    assert " +14" in by_hand(nightly, "status", "1").out
    assert " +14" in by_hand(nightly, "jobs").out


def test_the_manuals_units_are_valid_and_run(nightly: Path, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    for mark in ("service", "timer"):
        text = block(mark).replace("/srv/nightly", str(nightly))
        (units / f"batcher-nightly.{mark}").write_text(text)
    verify = shutil.which("systemd-analyze")
    if verify is not None:
        checked = subprocess.run(
            [verify, "verify", "--man=no", *units.iterdir()],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        ours = [line for line in checked.stderr.splitlines() if "batcher-nightly" in line]
        assert (checked.returncode, ours) == (0, [])
    service = configparser.RawConfigParser()
    service.optionxform = str  # type: ignore[assignment, method-assign]
    service.read(units / "batcher-nightly.service")
    unit = service["Service"]
    assert unit["WorkingDirectory"] == str(nightly)
    ran = subprocess.run(
        shlex.split(unit["ExecStart"]),
        cwd=unit["WorkingDirectory"],
        env={"HOME": str(nightly.parent), "USER": unit["User"], "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Job 1 done: enrichment on tier economy, 20 documents")
    configured_s = float(re.findall(r"call_timeout_s = (\d+)", (nightly / "batcher.toml").read_text())[0])
    assert float(unit["TimeoutStopSec"]) > max(120.0, configured_s)
    assert KEY not in ran.stdout + ran.stderr
    assert os.path.commonpath([unit["ExecStart"].split()[0], str(nightly)]) == str(nightly)
