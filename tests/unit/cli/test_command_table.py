"""The root command: quick, lazy, and its table true to the commands it names."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from batcher import __version__
from batcher.cli.lazy import LazyCommand, LazyGroup
from batcher.cli.root import COMMANDS, root

HEAVY = ("pydantic", "sqlalchemy", "rich", "orjson", "openai", "batcher.settings", "batcher.cli.submit")


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = (
        "import sys; from batcher.cli import main; code = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[] 0"
    for name, command in COMMANDS.items():
        assert f"  {name} " in out
        assert command.help in out


@pytest.mark.parametrize(("option", "said"), [("--help", "submit"), ("--version", f"batcher {__version__}")])
def test_help_and_version_import_little(option: str, said: str) -> None:
    """What they take is what they import: 132 modules took 0.06 s; benchmarks/startup.py measures it."""
    program = (
        f"import sys; from batcher.cli import main; main([{option!r}]);"
        "print(len(sys.modules), sorted(name for name in sys.modules if name.startswith('batcher')))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    count, names = out.splitlines()[-1].split(" ", 1)
    assert said in out
    assert int(count) <= 160, names
    assert len(json.loads(names.replace("'", '"'))) <= 12, names


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_is_true_to_the_commands(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.name == name
    own = command.get_short_help_str(200)
    assert own.startswith(COMMANDS[name].help.rstrip("."))
    with click.Context(command, info_name=name) as ctx:
        assert command.get_help(ctx)


def test_commands_with_lists_have_json() -> None:
    lists = ["submit", "status", "jobs", "spend", "doctor", "resume", "retry", "budget show", "tasks list"]
    for words in [*lists, "models list", "alerts list"]:
        command: click.Command = root
        for word in words.split():
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found is not None, words
            command = found
        assert "--json" in [name for parameter in command.params for name in parameter.opts], words


def test_children_of_other_modules_are_added() -> None:
    models = COMMANDS["models"].load()
    assert isinstance(models, click.Group)
    assert "pull" in models.commands


def test_an_unknown_command_gets_close_names() -> None:
    group = LazyGroup("g", lazy={"status": LazyCommand("batcher.cli.status:status", "x")})
    with pytest.raises(click.exceptions.NoSuchCommand) as caught:
        group.main(["stauts"], standalone_mode=False)
    assert "status" in str(caught.value.format_message())
