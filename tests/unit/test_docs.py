"""The manual: links lead somewhere, shown commands exist, the two lines are whole."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from batcher.cli.root import root

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/**/README.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)
COMMAND = re.compile(r"^\s*(?:\.venv/bin/)?batcher (.+?)(?:\s+#.*)?$")


def broken_links(page: Path, text: str) -> list[str]:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [target for target in targets if "://" not in target and not (page.parent / target).exists()]


def shown_commands(text: str) -> list[list[str]]:
    """The batcher command lines in a page's shell blocks, continuation lines joined."""
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, flags=re.S)
    lines = [
        part
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        for part in line.split("&&")
    ]
    return [shlex.split(match[1], comments=True) for line in lines if (match := COMMAND.match(line))]


def unknown_parts(words: list[str]) -> list[str]:
    """Commands and options of a command line that the CLI does not have."""
    command: click.Command = root
    context = click.Context(root)
    unknown = []
    value_follows = False
    for word in words:
        if value_follows:
            value_follows = False
        elif isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is None:
                return [word]
            command = found
        elif word.startswith("-") and word != "-":
            known = {
                name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
            }
            unknown += [word] if word.split("=")[0] not in known | {"--help", "-h"} else []
            value_follows = "=" not in word and any(
                word in option.opts and not option.is_flag
                for option in command.params
                if isinstance(option, click.Option)
            )
    return unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shown_commands_exist(page: Path) -> None:
    assert [
        (words, wrong) for words in shown_commands(page.read_text()) if (wrong := unknown_parts(words))
    ] == []


def test_the_checks_can_fail(tmp_path: Path) -> None:
    assert broken_links(tmp_path / "page.md", "[a](missing.md) [b](https://example.org)") == ["missing.md"]
    assert unknown_parts(["submit", "docs/", "--no-such-option"]) == ["--no-such-option"]
    assert unknown_parts(["no-such-command"]) == ["no-such-command"]
    assert unknown_parts(["spend", "--by", "day", "no-such-command"]) == ["no-such-command"]
    assert shown_commands("```sh\nx && batcher status \\\n  7 # why\n```") == [["status", "7"]]


@pytest.mark.parametrize("mark", ["first-line", "test-line"])
def test_each_of_the_two_lines_is_one_line_that_sets_up_its_own_environment(mark: str) -> None:
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert found is not None
    [line] = found[1].splitlines()
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert "-c constraints.txt" in line


def test_the_constraints_pin_versions_and_name_no_place() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
