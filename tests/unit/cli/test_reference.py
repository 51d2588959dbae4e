"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from batcher.cli.docs import render_commands
from batcher.cli.root import COMMANDS, root

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == render_commands(), "renew it: python -m batcher.cli.docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_it(name: str) -> None:
    page = render_commands()
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert f"`batcher {name}`" in page
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in page
            assert parameter.help
