"""The options that say what is to be answered and how; ``submit`` and ``plan`` take the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from batcher.cli.arguments import MANY
from batcher.cli.routing_options import routing_options
from batcher.cli.sampling_options import sampling_options

_AS_GIVEN: Final = (
    *("paths", "task", "tier", "model", "limit", "refresh", "golden"),
    *("sample", "judge", "route", "text_column", "id_column"),
)
"""Fields of a request that are called like their options."""


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--task`` and ``--param``, which comes as ``params``."""
    task = click.option(
        "--task", "-t", required=True, help="A task's name, or the path of one. See: batcher tasks list"
    )
    params = click.option(
        "--param", "-p", "params", multiple=True, metavar="K=V", help="A parameter of the task; repeatable."
    )
    return task(params(command))


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--text-column`` and ``--id-column``."""
    text = click.option("--text-column", metavar="NAME", help="Column of a table that holds the text.")
    row = click.option("--id-column", metavar="NAME", help="Column of a table that names its rows.")
    return text(row(command))


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add PATHs and what is asked of them; it comes as one ``request``."""

    @click.argument("paths", nargs=-1, required=True, metavar="PATH...")
    @task_options
    @click.option("--tier", help="Where to start. Default: what the task says.")
    @click.option("--model", help="This model and no other. See: batcher models list")
    @click.option("--limit", type=MANY, help="Stop reading after so many documents.")
    @click.option("--refresh", is_flag=True, help="Ask anew, although there are answers.")
    @click.option("--max-cost", metavar="USD", help="The job's own cap, beside the daily one.")
    @click.option(
        "--golden",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Known answers: accuracy is measured on them, and they tell how long answers are.",
    )
    @sampling_options
    @routing_options
    @table_options
    @functools.wraps(command)
    def with_request(*args: Any, params: tuple[str, ...], max_cost: str | None, **given: Any) -> Any:
        from batcher.money import usd_to_nusd
        from batcher.planning.order import SubmitRequest
        from batcher.tasks.params import parse_assignments

        request = SubmitRequest(
            params=parse_assignments(params),
            max_cost_nusd=None if max_cost is None else usd_to_nusd(max_cost),
            **{name: given.pop(name) for name in _AS_GIVEN},
        )
        return command(*args, request=request, **given)

    return with_request
