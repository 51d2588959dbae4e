"""Workers in hostile company: odd files around them, odd messages, a false broker, a killed parent."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from batcher.alerts.book import Rule
from batcher.dispatch.celery_app import MAINTENANCE_QUEUE, WORK, queue_of
from batcher.domain import JobState
from batcher.store.tables import alerts, jobs
from tests.support.fleet import Fleet, wait_until
from tests.support.redis_server import RedisServer
from tests.support.tls_proxy import TlsProxy, make_certificate
from tests.support.vendor_server import VendorServer

QUEUE = queue_of("economy")
PASSWORD = "s3cret-broker-word"
CARDS = ("--task", "./cards")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer, vendor_server: VendorServer) -> Iterator[Fleet]:
    redis.flush()
    made = Fleet.make(
        tmp_path,
        broker_url=redis.url,
        store_url=f"sqlite:///{tmp_path / 'store.db'}",
        openai_url=vendor_server.openai_url,
    )
    yield made
    made.end()


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def reader_of(fleet: Fleet, job_id: int) -> int | None:
    """The process that reads a job's corpus, once documents are in."""
    with fleet.store.read() as connection:
        reader = connection.execute(select(jobs.c.reader).where(jobs.c.id == job_id)).scalar_one()
    return int(reader.rsplit(":", 2)[1]) if reader and sum(fleet.counts(job_id).values()) else None


def test_a_killed_reader_is_noticed_by_workers_and_by_status_and_its_job_goes_on(
    fleet: Fleet, vendor_server: VendorServer
) -> None:
    fleet.table("large", 30_000)
    fleet.batcher("submit", "large.jsonl", *CARDS, "--detach", "--max-cost", "0")
    reader = wait_until(lambda: reader_of(fleet, 1))
    os.kill(reader, signal.SIGKILL)
    shown = fleet.batcher("status", 1).out
    assert f"its corpus was not read to the end: the process that read it is gone (process {reader}" in shown
    assert "batcher resume 1" in shown
    assert fleet.job(1).state is JobState.PAUSED
    assert 0 < sum(fleet.counts(1).values()) < 30_000
    assert alerts_of(fleet, 1) == [Rule.JOB_FAILED]

    worker = fleet.worker("--tier", "economy")
    fleet.table("second", 30_000)
    fleet.batcher("submit", "second.jsonl", *CARDS, "--detach", "--max-cost", "0")
    reader = wait_until(lambda: reader_of(fleet, 2))
    os.kill(reader, signal.SIGKILL)
    fleet.wait_for_state(2, JobState.PAUSED, 40)
    wait_until(lambda: Rule.JOB_FAILED in alerts_of(fleet, 2), 30)
    resumed = fleet.start("resume", 1)
    wait_until(lambda: sum(fleet.counts(1).values()) == 30_000, 60)
    wait_until(lambda: fleet.job(1).state is not JobState.INGESTING)
    fleet.batcher("cancel", 1)
    resumed.process.wait(30)
    assert worker.stop() == 0


def alerts_of(fleet: Fleet, job_id: int) -> list[str]:
    """The rules of the alerts on a reader of this job who is gone."""
    about = alerts.c.scope == f"job:{job_id}", alerts.c.title.contains("its corpus was not read to the end")
    with fleet.store.read() as connection:
        return list(connection.execute(select(alerts.c.rule).where(*about)).scalars())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_reader_that_is_stopped_leaves_its_job_paused(fleet: Fleet, number: int) -> None:
    fleet.table("large", 60_000)
    fleet.batcher("submit", "large.jsonl", *CARDS, "--detach", "--max-cost", "0")
    reader = wait_until(lambda: reader_of(fleet, 1))
    os.kill(reader, number)
    fleet.wait_for_state(1, JobState.PAUSED)
    assert fleet.job(1).reason == "interrupted"


def test_nothing_is_imported_from_the_working_folder(fleet: Fleet, vendor_server: VendorServer) -> None:
    root = Path(fleet.env["PYTHONPATH"])
    site = fleet.folder.parent / "site"
    site.mkdir()
    for package in ("batcher", "workers", "jobs"):
        (site / package).symlink_to(root / package)
    traps = fleet.folder
    for name in ("email", "json", "pickle", "socket", "celery", "celeryconfig"):
        who = f"__import__('sys').argv, {name!r}"
        (traps / f"{name}.py").write_text(f"print({who}, file=open({str(traps / 'sprung')!r}, 'a'))\n")
    for package in ("batcher", "workers"):
        (traps / package).mkdir()
    script = fleet.folder.parent / "batcher-command"
    script.write_text(
        "import sys\nfrom batcher.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    (fleet.folder / "docs").mkdir()
    (fleet.folder / "docs" / "1.html").write_text("<p>About rivers and bridges.</p>")
    shutil.copytree(fleet.folder / "docs", fleet.folder / "more")
    (fleet.folder / "more" / "1.html").write_text("<p>About mountains.</p>")

    command = [sys.executable, str(script)]
    env = {"PYTHONPATH": str(site)}
    worker = fleet.run([*command, "worker", "--tier", "economy", "--beat"], "worker", **env)
    worker.wait_for("ready.", 60)
    wait_until(lambda: len(worker.children()) == 2)
    for words in (["submit", "docs", *CARDS, "--detach"], ["submit", "more", *CARDS]):
        done = fleet.run([*command, *words], words[1], **env)
        assert done.process.wait(60) == 0, done.log
    fleet.wait_for_state(1, JobState.DONE)
    assert fleet.done(1) == fleet.done(2) == 1
    assert not (traps / "sprung").exists(), (traps / "sprung").read_text()
    assert worker.stop() == 0


def test_messages_that_are_none_of_ours_are_dropped_and_the_tier_is_served_on(
    fleet: Fleet, redis: RedisServer
) -> None:
    worker = fleet.worker("--tier", "economy")
    [child] = worker.children()

    def depth() -> int:
        with redis.client() as client:
            return int(client.llen(QUEUE)) + int(client.hlen("unacked"))

    odd_bodies = ["hello", 42, None, [], {}, [[], {}, {}], [["economy", 2], {}, {}], [[1], {}, {}], [1, 2, 3]]
    odd_headers = [
        {"id": None}, {"id": 5}, {"task": "os.system"}, {"task": ["batcher.work"]}, {"timelimit": "soon"},
        {"timelimit": 7}, {"eta": 5}, {"expires": {}}, {"retries": "many"},
    ]  # fmt: skip
    good = [["economy"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    messages = [envelope(body, {}) for body in odd_bodies] + [envelope(good, odd) for odd in odd_headers]
    unwrapped: list[dict[str, object]] = [
        {"body": "%%%"}, {"headers": 7}, {"properties": {}}, {"properties": None}, {"body": None},
        {"content-type": 5}, {"content-encoding": 5},
    ]  # fmt: skip
    messages += [json.dumps(json.loads(envelope(good, {})) | odd) for odd in unwrapped]
    messages += ["not json", "42", "[]", "{}", '"word"', "null", '{"body": 1, "properties": 2}', "\xff"]
    with redis.client() as client:
        for text in messages:
            client.lpush(QUEUE, text)
            wait_until(lambda: depth() == 0, 20, lambda: worker.log)
        client.lpush(QUEUE, envelope(good, {}))
    wait_until(lambda: depth() == 0, 20, lambda: worker.log)
    assert worker.children() == [child], worker.log
    dropped = worker.log.count("none of batcher's was dropped") + worker.log.count("no message was dropped")
    assert dropped >= len(odd_bodies) + 8, worker.log
    fleet.table("after", 3)
    fleet.batcher("submit", "after.jsonl", *CARDS)
    assert worker.children() == [child]
    plain = fleet.celery_worker("economy")
    with redis.client() as client:
        client.lpush(QUEUE, envelope("hello", {}), envelope("hello", {}), "not json", "not json")
    wait_until(lambda: depth() == 0, 20)
    assert plain.process.poll() is None
    assert plain.stop() == 0
    assert worker.stop() == 0


def envelope(body: object, headers: dict[str, object]) -> str:
    """What Celery would push onto the queue of a tier, with another body or headers."""

    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": WORK, "id": "1", "lang": "py"} | headers,
            "properties": {
                "delivery_mode": 2,
                "delivery_tag": os.urandom(8).hex(),
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
            },
        }
    )


def test_a_certificate_of_an_unknown_authority_is_refused_by_everybody_who_uses_the_broker(
    fleet: Fleet, redis: RedisServer, tmp_path: Path
) -> None:
    certificate, key, _ = make_certificate(tmp_path)
    with TlsProxy(certificate, key, redis.port) as proxy:
        fleet.env["BATCHER_BROKER_URL"] = f"rediss://:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        asked = fleet.batcher("workers", code=5)
        assert "CERTIFICATE_VERIFY_FAILED" in asked.err
        worker = fleet.start("worker", "--tier", "economy")
        worker.wait_for("CERTIFICATE_VERIFY_FAILED")
        examined = {one["part"]: one for one in fleet.batcher("doctor", "--json", code=None).json["findings"]}
        assert (examined["broker"]["ok"], examined["workers"]["ok"]) == (False, False)
        assert "CERTIFICATE_VERIFY_FAILED" in examined["broker"]["message"]
        worker.stop()
        # Whoever asks for no check gets none.
        open_to_all = fleet.env["BATCHER_BROKER_URL"].replace(f":{PASSWORD}@", "") + "?ssl_cert_reqs=none"
        assert fleet.batcher("workers", BATCHER_BROKER_URL=open_to_all).code == 0


@pytest.mark.parametrize("graceful", [True, False])
def test_workers_and_the_schedule_end_with_the_one_who_started_them(
    fleet: Fleet, vendor_server: VendorServer, graceful: bool
) -> None:
    vendor_server.configure(latency_s=1.0)
    worker = fleet.worker("--tier", "economy", "--beat", BATCHER_CONCURRENCY="4", BATCHER_CHUNK_ITEMS="4")
    family = wait_until(lambda: len(worker.children()) == 2 and worker.children())
    fleet.table("docs", 40)
    fleet.batcher("submit", "docs.jsonl", *CARDS, "--detach")
    vendor_server.wait_for_calls(4)
    worker.stop(signal.SIGTERM if graceful else signal.SIGKILL)
    wait_until(lambda: not any(map(lives, family)), 20)
    bill = vendor_server.totals()
    assert bill["calls"] == bill["finished"] == fleet.done(1) < 40, "they end warmly"
    assert fleet.nothing_reserved_nor_unknown()


def test_what_is_wrong_with_a_broker_is_said_in_one_line(fleet: Fleet, redis: RedisServer) -> None:
    def told(url: str, code: int) -> str:
        outcome = fleet.batcher("workers", code=code, BATCHER_BROKER_URL=url)
        assert PASSWORD not in outcome.err
        [line] = outcome.err.splitlines()
        return line

    at = f"127.0.0.1:{redis.port}/0"
    assert "begins with http://, which is no broker's" in told(f"http://user:{PASSWORD}@x", 3)
    assert "needs a package that is not installed" in told("sqs://", 3)
    missing = told(f"rediss://:{PASSWORD}@{at}?ssl_ca_certs=/nowhere.pem", 3)
    assert "names a file for ssl_ca_certs that is not there" in missing
    assert "Connection refused" in told(f"redis://:{PASSWORD}@127.0.0.1:1/0", 5)
    assert fleet.batcher("worker", code=3, BATCHER_BROKER_URL="sqs://").err.count("\n") == 1
    wrong = fleet.batcher("submit", "cards", *CARDS, code=3, BATCHER_BROKER_URL=f"http://user:{PASSWORD}@x")
    assert "no broker's" in wrong.err
    with redis.client() as client:
        client.acl_setuser(
            "reader",
            enabled=True,
            passwords=[f"+{PASSWORD}"],
            keys="*",
            channels="*",
            commands=["+@read", "+@connection"],
        )
        assert "invalid username-password" in told(f"redis://reader:wrong-{PASSWORD}@{at}", 5)
        refused = told(f"redis://reader:{PASSWORD}@{at}", 5)
        assert re.search("The broker refuses: .*permissions", refused), refused
        client.config_set("maxmemory", 1)
        try:
            assert "The broker refuses: command not allowed when used memory" in told(redis.url, 5)
            examined = fleet.batcher("doctor", "--json", code=None).json["findings"]
            [about] = [one["message"] for one in examined if one["part"] == "workers"]
            assert "memory" in about
        finally:
            client.config_set("maxmemory", 0)


def test_a_store_that_no_waiting_mends_ends_a_worker_at_its_start(fleet: Fleet) -> None:
    plain = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", QUEUE, "--loglevel", "info"]
    for url, said in (("mysql://u@h/x", "The store cannot be mysql"), ("nonsense", "cannot be read")):
        refused = fleet.batcher("worker", "--tier", "economy", code=3, BATCHER_DATABASE_URL=url)
        assert said in refused.err
        child = fleet.run(plain, f"plain-{url[:5]}", BATCHER_DATABASE_URL=url)
        assert child.process.wait(30) == 3, child.log
        assert child.log.count(said) == 1
        assert "Traceback" not in child.log


@pytest.mark.parametrize(("url", "said"), [("", "A worker needs a broker"), ("http://x", "no broker's")])
@pytest.mark.parametrize("words", [["worker", "-Q", QUEUE], ["beat"]])
def test_plain_celery_without_a_broker_says_so_in_a_line(
    fleet: Fleet, url: str, said: str, words: list[str]
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "workers.app", *words]
    child = fleet.run(command, "plain", BATCHER_BROKER_URL=url)
    assert child.process.wait(30) == 3, child.log
    assert child.log.startswith("Error: ")
    assert (child.log.count("\n"), said in child.log) == (1, True)


def test_submit_that_leaves_says_that_the_broker_cannot_be_used(fleet: Fleet) -> None:
    fleet.table("docs", 3)
    told = fleet.batcher(
        "submit", "docs.jsonl", *CARDS, "--detach", BATCHER_BROKER_URL="redis://127.0.0.1:1/0"
    )
    assert "The broker cannot be reached: Error 111" in told.err
    assert "workers find it when they look" in told.err
    fleet.wait_for_state(1, JobState.RUNNING)


def test_the_schedule_does_not_pile_messages_up_that_nobody_takes(fleet: Fleet, redis: RedisServer) -> None:
    with redis.client() as client:
        client.lpush(MAINTENANCE_QUEUE, *(envelope([[], {}, {}], {}) for _ in range(3)))
        beat = fleet.run(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "workers.app",
                "beat",
                "--schedule",
                str(fleet.folder / "beat"),
            ],
            "beat",
        )
        beat.wait_for("nobody takes messages off batcher.maintenance")
        assert client.llen(MAINTENANCE_QUEUE) == 3
    assert beat.stop() == 0


def test_a_key_that_is_no_queue_keeps_nobody_from_working_and_is_named(
    fleet: Fleet, redis: RedisServer
) -> None:
    with redis.client() as client:
        client.set(queue_of("premium"), "x")
    worker = fleet.start("worker", name="worker")
    worker.wait_for("Delete that key: something else has put it where messages go")
    assert re.search(f"The broker refuses: .*{re.escape(queue_of('premium'))}.* WRONGTYPE", worker.log)
    [child] = worker.children()
    fleet.table("docs", 4)
    fleet.batcher("submit", "docs.jsonl", *CARDS)
    assert fleet.counts(1) == {"done": 4}
    with redis.client() as client:
        client.delete(queue_of("premium"))
    worker.wait_for("ready.")
    assert worker.children() == [child]
    assert worker.stop() == 0
