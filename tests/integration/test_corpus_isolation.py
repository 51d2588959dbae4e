"""Parser processes that crash, hang, eat memory or are killed cost one document each."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from batcher.documents.corpus import Parsed, SourceOptions, read_corpus
from batcher.documents.isolation import ParserPool
from batcher.documents.records import ContentError


def echo(value: str) -> str:
    return value


def read_at_null() -> None:
    ctypes.string_at(0)


def never_return() -> None:
    while True:
        pass


def eat_memory() -> int:
    return len(bytearray(6_000_000_000))


def raise_something() -> None:
    raise LookupError("unforeseen")


def own_pid() -> int:
    return os.getpid()


@pytest.fixture
def pool() -> Iterator[ParserPool]:
    made = ParserPool(workers=2, timeout_s=2)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("function", "code", "word"),
    [
        (read_at_null, "crashed", "SIGSEGV"),
        (never_return, "timeout", "2 s"),
        (eat_memory, "crashed", "MemoryError"),
        (raise_something, "unreadable", "unforeseen"),
    ],
)
def test_a_bad_document_costs_itself(pool: ParserPool, function: object, code: str, word: str) -> None:
    tickets = [pool.submit(echo, "before"), pool.submit(function), pool.submit(echo, "after")]  # type: ignore[arg-type]
    assert pool.result(tickets[0]) == "before"
    with pytest.raises(ContentError) as caught:
        pool.result(tickets[1])
    assert caught.value.code == code
    assert word in caught.value.reason
    assert pool.result(tickets[2]) == "after"


def test_several_crashes_in_a_row(pool: ParserPool) -> None:
    tickets = [
        pool.submit(read_at_null if number % 2 else echo, *([] if number % 2 else [str(number)]))
        for number in range(8)
    ]
    results = []
    for ticket in tickets:
        try:
            results.append(pool.result(ticket))
        except ContentError as error:
            results.append(error.code)
    assert results == ["0", "crashed", "2", "crashed", "4", "crashed", "6", "crashed"]


def test_processes_killed_while_idle_are_replaced(pool: ParserPool) -> None:
    first = pool.submit(own_pid)
    killed = psutil.Process(pool.result(first))
    for process in [killed, *[child for child in psutil.Process().children() if child.pid != killed.pid]]:
        if "spawn_main" in " ".join(process.cmdline()):
            process.kill()
    assert pool.result(pool.submit(own_pid)) != killed.pid


def test_closing_does_not_wait_for_a_hanging_parser() -> None:
    pool = ParserPool(workers=1, timeout_s=600)
    pool.result(pool.submit(echo, "started"))
    pool.submit(never_return)
    started = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - started < 15


SLOW_TO_START = """
import os, signal, sys, time
if "spawn_main" in " ".join(sys.orig_argv):
    try:
        os.close(os.open(os.environ["FIRST"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        from multiprocessing import synchronize

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        load = synchronize.SemLock.__setstate__

        def load_late(lock, state):
            open(os.environ["SECOND"], "w").close()
            while signal.SIGTERM not in signal.sigpending():
                time.sleep(0.01)
            load(lock, state)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

        synchronize.SemLock.__setstate__ = load_late
"""
"""Makes the second parser process one that is told to end while it is starting."""


def test_a_process_that_is_starting_when_the_corpus_is_read_ends_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(SLOW_TO_START)
    script = (
        "import os, time\nfrom batcher.documents.isolation import ParserPool\n"
        "pool = ParserPool(workers=2)\nprint(pool.result(pool.submit(len, 'four')))\n"
        "while not os.path.exists(os.environ['SECOND']):\n    time.sleep(0.01)\n"
        "pool.close()\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(tmp_path / "path"),
            "FIRST": str(tmp_path / "first"),
            "SECOND": str(tmp_path / "second"),
        },
    )
    assert (found.stdout, found.stderr, found.returncode) == ("4\n", "", 0)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>x</p>")
    script = tmp_path / "script.py"
    script.write_text(
        "from batcher.documents.corpus import SourceOptions, read_corpus\n"
        f"list(read_corpus([{str(tmp_path / 'page.html')!r}], SourceOptions(1000)))\n"
    )
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 1
    assert "__main__" in result.stderr.strip().split("\n")[-1]


def test_parser_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>x</p>")
    script = (
        "import sys\nfrom batcher.documents.corpus import SourceOptions, read_corpus\n"
        "corpus = read_corpus([sys.argv[1]], SourceOptions(1000))\nnext(corpus)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "page.html")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert workers
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_parsers_import_nothing_from_the_working_folder_and_leave_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("email", "tokenize", "pickle", "chardet"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "a.txt").write_text("Plain text.")
    (tmp_path / "b.html").write_text("<p>A paragraph.</p>")
    found = list(read_corpus(["a.txt", "b.html"], SourceOptions(1_000_000)))
    assert [type(one) for one in found] == [Parsed, Parsed], found
    assert "PYTHONSAFEPATH" not in os.environ
