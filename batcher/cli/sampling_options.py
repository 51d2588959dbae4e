"""The options of commands whose answers are drawn for checking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from batcher.cli.arguments import Finite


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--sample`` and ``--judge``."""
    share = click.option(
        "--sample",
        type=Finite(0, 1),
        metavar="SHARE",
        help="The share of the answers that is drawn for checking, 0 to 1; 0: none. Default: what the task or"
        " [quality] says, else 0.02.",
    )
    judge = click.option(
        "--judge",
        metavar="NAME",
        help="The tier or model that judges what was drawn, or none. Its calls cost, under the same caps."
        " Default: what the task or [quality] says, else none.",
    )
    return share(judge(command))
