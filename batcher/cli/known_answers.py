"""What ``batcher evaluate`` and ``batcher ladder learn`` take alike: known answers, and models to measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.request_options import task_options
from batcher.errors import UsageError

if TYPE_CHECKING:
    from batcher.planning.order import SubmitRequest


def known_answer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add PATHs, ``--task``, ``--param``, ``--golden``, ``--model`` and ``--tier``."""
    for add in reversed(
        (
            click.argument("paths", nargs=-1, metavar="[PATH]..."),
            task_options,
            click.option(
                "--golden",
                type=click.Path(dir_okay=False, path_type=Path),
                required=True,
                metavar="FILE",
                help="Known answers, JSON Lines. Their documents are looked for beside this file and under"
                " PATHs.",
            ),
            click.option("--model", "models", multiple=True, help="A model to measure; repeatable."),
            click.option(
                "--tier",
                "tiers",
                multiple=True,
                help="Measure the models of this tier; repeatable. Default: those of the task's ladder.",
            ),
        )
    ):
        command = add(command)
    return command


def known_answer_request(
    paths: Sequence[str], task: str, golden: Path, params: Sequence[str], **more: Any
) -> SubmitRequest:
    """The request for a job on known answers: the golden file first, then where its documents are.

    Args:
        paths: as the user named them.
        task: its name or path.
        golden: the known answers.
        params: K=V strings.
        more: further fields of the request.

    Raises:
        UsageError: if a path is not there, or standard input is one.
    """
    from batcher.domain import Purpose
    from batcher.planning.order import SubmitRequest
    from batcher.tasks.params import parse_assignments

    named = [str(golden), *paths]
    _check_paths(named)
    return SubmitRequest(
        paths=tuple(os.path.abspath(path) for path in named),  # noqa: PTH100 - keeps any bytes
        task=task,
        params=parse_assignments(params),
        golden=golden,
        purpose=Purpose.GOLDEN,
        **more,
    )


def _check_paths(paths: list[str]) -> None:
    """Told by the names that the user gave: they are made absolute afterwards."""
    from batcher.documents.paths import STDIN, check_paths

    if STDIN in paths:
        raise UsageError("Standard input cannot be read once for each model. Name files or folders")
    if not Path(paths[0]).is_file():
        raise UsageError(f"--golden {paths[0]}: there is no such file")
    check_paths(paths)
