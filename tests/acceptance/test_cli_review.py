"""``batcher review`` as a person uses it: keys on a pseudo-terminal, one command at a time without."""

from __future__ import annotations

import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from typing import Self

import pytest

from tests.acceptance.conftest import Cli
from tests.support.vendor_server import VendorServer

SUBMIT = ("submit", "docs", "--task", "./cards", "--sample", "1", "--yes")


class Terminal:
    """``batcher`` on a pseudo-terminal: waits for what the screen shows, then types."""

    def __init__(self, cli: Cli, *words: str, columns: int = 120, rows: int = 30) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {name: value for name, value in cli.env.items() if name not in {"COLUMNS", "LINES"}}
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "batcher", *words], stdin=theirs, stdout=theirs, stderr=theirs,
            cwd=cli.folder, env=env | {"TERM": "xterm-256color"}, start_new_session=True, text=True,
        )  # fmt: skip
        os.close(theirs)
        cli.started.append(self.process)
        self.screen = ""

    def wait_for(self, text: str) -> Self:
        """Read until the screen, since the last key, has shown a text."""
        deadline = time.monotonic() + 20
        while text not in self.screen:
            assert time.monotonic() < deadline, f"never showed {text!r}:\n{self.screen}"
            assert self._read(), f"ended without {text!r}:\n{self.screen}"
        return self

    def key(self, key: str) -> Self:
        """Press a key; what was shown before is forgotten."""
        self.screen = ""
        os.write(self._ours, key.encode())
        return self

    def end(self) -> str:
        """The rest of what is shown, and that it ended well."""
        while self._read():
            pass
        os.close(self._ours)
        assert self.process.wait(timeout=60) == 0, self.screen
        return self.screen

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 60)[0]:
            return False
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # the other end was closed
            return False
        self.screen += part.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(part)


READY = "q quit"


@pytest.fixture
def reviewed(cli: Cli) -> Cli:
    """A user with a job of four answers, all drawn."""
    cli.documents(4)
    cli(*SUBMIT)
    return cli


def labels(cli: Cli) -> dict[str, int]:
    found: dict[str, int] = cli("status", 1, "--json").json["sampled"]
    return found


def test_labels_are_stored_at_once_and_a_second_sitting_goes_on(reviewed: Cli) -> None:
    first = Terminal(reviewed, "review", "1", "--as", "ann").wait_for(READY)
    assert "0 labelled by you, 4 to look at" in first.screen
    assert "This is document number" in first.screen
    assert '"title"' in first.screen
    first.key("r").wait_for("1 labelled by you, 3 to look at").wait_for(READY)
    first.key("w").wait_for("2 labelled by you").wait_for(READY)
    first.process.kill()
    second = Terminal(reviewed, "review", "1", "--as", "ann").wait_for(READY)
    assert "2 labelled by you, 2 to look at" in second.screen
    second.key("s").wait_for("2 labelled by you, 1 to look at").wait_for(READY)
    second.key("r").wait_for("any other key ends the review").key("x")
    assert "1 label in this sitting, 3 by you in all, 1 left" in second.end()
    sampled = reviewed("status", 1, "--json").json["sampled"]
    assert sampled["waiting"] == 1
    assert sampled["estimate"]["by"]["person"] == 3
    assert sampled["estimate"]["accuracy"] == pytest.approx(2 / 3)
    assert "66.7 % (" in reviewed("status", 1).out


def test_undo_shows_the_answer_again(reviewed: Cli) -> None:
    sitting = Terminal(reviewed, "review", "--as", "ann").wait_for(READY)
    shown = next(line for line in sitting.screen.splitlines() if "docs/" in line)
    sitting.key("w").wait_for("1 labelled by you").wait_for(READY)
    sitting.key("u").wait_for("0 labelled by you, 4 to look at").wait_for(READY)
    assert shown.split("(")[0].split("docs/")[1] in sitting.screen
    sitting.key("q")
    assert "0 by you in all, 4 left" in sitting.end()


@pytest.mark.parametrize("last", ["r", "s"])
def test_the_last_answer_can_be_gone_back_to_as_well(reviewed: Cli, last: str) -> None:
    sitting = Terminal(reviewed, "review", "--as", "ann").wait_for(READY)
    for labelled in (1, 2, 3):
        sitting.key("w").wait_for(f"{labelled} labelled by you").wait_for(READY)
    sitting.key(last).wait_for("That was the last one. u goes back to it")
    sitting.key("u").wait_for("3 labelled by you, 1 to look at").wait_for(READY)
    sitting.key("w").wait_for("any other key ends the review").key("x")
    assert "4 labels in this sitting, 4 by you in all, 0 left" in sitting.end()
    assert reviewed("status", 1, "--json").json["sampled"]["estimate"]["accuracy"] == 0


def test_a_fixed_answer_is_checked_against_the_schema_and_becomes_a_known_one(reviewed: Cli) -> None:
    editor = reviewed.folder / "editor.py"
    editor.write_text(
        "import json, sys\n"
        "path = sys.argv[1]\n"
        "card = json.load(open(path))\n"
        "card['pages'] = 7 if card['pages'] == 'many' else 'many'\n"
        "json.dump(card, open(path, 'w'))\n"
        "import os; os.utime(path, (os.path.getmtime(path) + 10,) * 2)\n"
    )
    reviewed.env["EDITOR"] = f"{sys.executable} {editor}"
    sitting = Terminal(reviewed, "review", "--as", "ann").wait_for(READY)
    sitting.key("f").wait_for("That does not fit the task: pages").wait_for("any other key leaves it")
    sitting.key("e").wait_for("1 labelled by you").wait_for(READY)
    sitting.key("r").wait_for("2 labelled by you").wait_for(READY)
    sitting.key("q").end()
    other = reviewed("review", 1, "--as", "ann", "--next", "--json").json["item"]["item_id"]
    assert "found wrong" not in reviewed("review", "1", "--export", "known.jsonl").err
    reviewed("review", 1, "--as", "ann", "--label", other, "wrong")
    told = reviewed("review", "1", "--export", "known.jsonl").err
    assert f"Left out: 1 answer was found wrong and not fixed (item {other})" in told
    assert "the same model looks better than it is" in told
    rows = [json.loads(line) for line in (reviewed.folder / "known.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert sorted(row["expected"]["pages"] == 7 for row in rows) == [False, True]
    assert all(row["text"].startswith("This is document number") for row in rows)
    again = reviewed(
        "submit", "docs", "--task", "./cards", "--golden", "known.jsonl", "--refresh", "--yes", "--json"
    ).json
    assert again["accuracy"]["scored"] == 2


def test_an_editor_that_is_not_there_ends_no_sitting(reviewed: Cli) -> None:
    reviewed.env["EDITOR"] = "/no/such/editor"
    sitting = Terminal(reviewed, "review", "--as", "ann").wait_for(READY)
    sitting.key("f").wait_for("Set EDITOR to one that is there")
    sitting.key(" ").wait_for(READY)
    sitting.key("r").wait_for("1 labelled by you").wait_for(READY)
    sitting.key("q").end()


def test_long_documents_have_pages_and_nothing_in_them_steers_the_terminal(cli: Cli) -> None:
    folder = cli.documents(0)
    lines = [f"line {number}" for number in range(60)]
    (folder / "a.txt").write_text("\x1b[2J\x1b]0;owned\x07first\n" + "\n".join(lines))
    cli(*SUBMIT)
    narrow = Terminal(cli, "review", "--as", "ann", columns=80, rows=20).wait_for(READY)
    assert "page 1 of" in narrow.screen
    narrow.key("q").end()
    sitting = Terminal(cli, "review", "--as", "ann", rows=20).wait_for(READY)
    assert "\\u001b]0;owned\\u0007first" in sitting.screen
    assert "\x1b]0;" not in sitting.screen
    sitting.key(" ").wait_for("page 2 of").wait_for("line 20").wait_for(READY)
    sitting.key("b").wait_for("page 1 of").wait_for(READY)
    sitting.key("?").wait_for("take back the last label").key("x").wait_for(READY)
    sitting.key("q").end()


def test_a_disagreement_is_shown_after_the_answer(reviewed: Cli) -> None:
    first = reviewed("review", "1", "--as", "ann", "--next", "--json").json
    item = first["item"]["item_id"]
    assert first["left"] == 4
    assert first["item"]["opinions"] is None
    assert reviewed("review", "1", "--as", "ann", "--label", item, "right", "--json").json["correct"] is True
    sitting = Terminal(reviewed, "review", "--as", "bob").wait_for(READY)
    assert "person:ann" not in sitting.screen
    sitting.key("w").wait_for("person:ann says it is right").wait_for("u takes your label back")
    sitting.key("x").wait_for("1 labelled by you").wait_for(READY)
    sitting.key("q").end()
    only = reviewed("review", "1", "--as", "cleo", "--only-disagreements", "--next", "--json").json
    assert only["left"] == 1
    assert only["item"]["item_id"] == item
    assert [one["by"] for one in only["item"]["opinions"]] == ["person:ann", "person:bob"]


def test_without_a_terminal_it_says_how(reviewed: Cli) -> None:
    assert "--next --json" in reviewed("review", "1", code=2).err
    item = reviewed("review", "--as", "ann", "--next", "--json").json["item"]["item_id"]
    assert "was not drawn" in reviewed("review", "--label", 999, "right", code=2).err
    assert "--answer goes with" in reviewed("review", "--label", item, "fix", code=2).err
    wrong = reviewed("review", "--label", item, "fix", "--answer", '{"title": 1}', code=2)
    assert "does not fit the task" in wrong.err
    assert "There is no tier 'foo'. There are: " in reviewed("review", "--next", "--tier", "foo", code=2).err
    assert "--remark goes with --label" in reviewed("review", "--next", "--remark", "so", code=2).err
    assert "--answer goes with --label" in reviewed("review", "--next", "--answer", "{}", code=2).err
    assert "--json goes with --next" in reviewed("review", "--json", code=2).err
    both = reviewed("review", "--next", "--label", item, "right", code=2)
    assert "--next and --label do not go together" in both.err
    reviewed("review", "--as", "ann", "--label", item, "wrong", "--remark", "no such title")
    assert reviewed("review", "--as", "ann", "--next", "--json").json["left"] == 3
    taken = reviewed("review", "--as", "ann", "--label", item, "none", "--json").json
    assert taken == {"item_id": item, "label": "none", "taken_back": True}
    assert reviewed("review", "--as", "ann", "--next", "--json").json["left"] == 4


def test_a_job_without_samples_says_so(cli: Cli) -> None:
    cli.documents(2)
    cli("submit", "docs", "--task", "./cards", "--sample", "0", "--yes")
    sitting = Terminal(cli, "review")
    assert "Nothing was drawn of job 1" in sitting.end()
    assert cli("status", 1, "--json").json["sampled"] is None


def test_the_judge_is_named_at_submit_and_its_verdicts_stand_in_the_report(
    cli: Cli, vendor_server: VendorServer
) -> None:
    verdict = json.dumps({"reason": "fine", "score": 1, "correct": True})
    vendor_server.configure(answers=[("You check the work of another model", verdict)])
    cli.documents(4)
    assert "no tier and no model 'oracle'" in cli(*SUBMIT, "--judge", "oracle", code=2).err
    done = cli(*SUBMIT, "--judge", "gpt-4o", "--json").json
    sampled = done["sampled"]
    assert (sampled["judge"], sampled["drawn"], sampled["waiting"]) == ("gpt-4o", 4, 0)
    assert sampled["estimate"]["by"] == {"judge": 4, "golden": 0, "person": 0}
    out = cli("status", 1).out
    assert "100.0 % (" in out
    assert "4 scored: 4 by a judge" in out
    assert "nobody has checked it yet" in out
    item = cli("review", "1", "--as", "ann", "--next", "--json").json["item"]["item_id"]
    told = cli("review", "1", "--as", "ann", "--label", item, "wrong", "--json").json
    assert told["disagreements"][0]["by"] == "judge:gpt-4o"
    out = cli("status", 1).out
    assert "gpt-4o agrees with people on 0.0 % (" in out
    assert "3 by a judge, 1 by people" in out
    spend = cli("spend", "--by", "purpose", "--json").out
    assert '"judge"' in spend
