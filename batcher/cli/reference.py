"""The page of the manual about the commands, from the commands themselves."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, Final

import click

from batcher.cli.configuration import markdown_table
from batcher.cli.root import root

_INTRODUCTION: Final = """\
# Commands

<!-- Written by `python -m batcher.cli.docs` from the commands themselves: change them there. -->

`batcher COMMAND --help` says the same. Results go to standard output, everything else to standard error; the
report that closes a run counts as its result. With `--json` an error is JSON on standard output too: `error`
and `exit_code`. On a screen, control characters in names and answers are written out (`\\u001b`); files get
them as they are.

| exit code | meaning |
| --- | --- |
| 0 | all done |
| 1 | items failed or were rejected, the job was paused, cancelled or out of time, or another start runs it |
| 2 | the command line names something that does not exist, or does not fit |
| 3 | a key, a price, a setting or a file that the configuration needs is missing or wrong |
| 4 | stopped by the budget; the job is paused and can be resumed |
| 5 | a database, a provider or another dependency is down, or the output cannot be written |
| 130 | interrupted; the job can be resumed |
"""


def render_commands() -> str:
    """``docs/cli.md``."""
    context = click.Context(root, info_name="batcher")
    parts = [_INTRODUCTION, "## Options before the command\n\n" + _options(root)]
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        parts += _sections(command, click.Context(command, info_name=name, parent=context))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _sections(command: click.Command, context: click.Context) -> list[str]:
    usage = " ".join(context.get_usage().removeprefix("Usage: ").split())
    heading = f"## `{context.command_path}`" if context.parent and context.parent.parent is None else ""
    heading = heading or f"### `{context.command_path}`"
    parts = [heading, cleandoc(command.help or ""), f"    {usage}", _options(command)]
    own = "\n\n".join(part for part in parts if part)
    if not isinstance(command, click.Group):
        return [own]
    children = [
        section
        for name in command.list_commands(context)
        if (child := command.get_command(context, name)) is not None
        for section in _sections(child, click.Context(child, info_name=name, parent=context))
    ]
    return [own, *children]


def _options(command: click.Command) -> str:
    rows = [
        (_spelling(option), _about(option))
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    return markdown_table(("option", "meaning"), rows) if rows else ""


def _spelling(option: click.Option) -> str:
    names = ", ".join(option.opts + option.secondary_opts)
    if option.is_flag:
        return f"`{names}`"
    return f"`{names} {_placeholder(option)}`"


def _placeholder(option: click.Option) -> str:
    kind: Any = option.type
    if option.metavar:
        return option.metavar
    if isinstance(kind, click.Choice):
        return "/".join(map(str, kind.choices))
    return str(kind.name).split()[0].upper()


def _about(option: click.Option) -> str:
    text = (option.help or "").replace("|", "\\|")
    return f"{text} Default: {option.default}." if option.show_default else text
