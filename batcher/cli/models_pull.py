"""``batcher models pull``: fetch the weights of a local model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from batcher.providers.local.sources import Progress

_LINE_EVERY_S: Final = 5.0


@click.command("pull")
@click.argument("name")
@click.pass_context
def pull(context: click.Context, name: str) -> None:
    """Fetch the weights of the local model NAME, check them, and keep them under BATCHER_HOME."""
    from batcher.providers.local.weights import pull as fetch
    from batcher.settings import Settings, load_settings

    settings = context.find_object(Settings) or load_settings(context.find_root().params.get("config"))
    with _progress(name) as progress:
        path = fetch(name, settings.home / "models", progress)
    click.echo(f"{name} is ready: {path}")


def _progress(name: str) -> AbstractContextManager[Progress]:
    return _bar(name) if sys.stderr.isatty() else _lines(name)


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _lines(name: str) -> Iterator[Progress]:
    last_at = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last_at
        if time.monotonic() - last_at >= _LINE_EVERY_S:
            last_at = time.monotonic()
            click.echo(f"{name}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", err=True)

    yield report
