"""Fetches the local tier's weights before a run that needs them."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.output import can_ask, note
from batcher.errors import ConfigurationError

if TYPE_CHECKING:
    from batcher.catalog.models import Model
    from batcher.runtime import Runtime

_LINE_EVERY_S: Final = 5.0
_REDRAW_EVERY_S: Final = 0.25


def ensure_weights(runtime: Runtime, model: Model, *, yes: bool) -> None:
    """Make sure that a local model can start; other models need nothing.

    Args:
        runtime: settings and catalogue.
        model: the model that is about to work.
        yes: fetch without asking, as is done without a terminal too: the local tier was asked for.

    Raises:
        ConfigurationError: if the extra or the weights are missing, and the user does not want them.
    """
    if runtime.catalog.providers[model.provider].kind != "local":
        return
    from batcher.providers.local.known import KNOWN
    from batcher.providers.local.options import local_options
    from batcher.providers.local.weights import NOT_INSTALLED, have_weights, pull, weights_file

    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigurationError(NOT_INSTALLED)
    options = local_options(runtime.settings, {})
    if have_weights(model.id, options):
        return
    known = KNOWN.get(model.id)
    if known is None:
        weights_file(model.id, options)
        return
    note(
        f"The local tier needs the weights of {known.name}: {known.size / 1e6:,.0f} MB, {known.licence}, "
        f"once, into {options.models_dir}."
    )
    if not yes and can_ask() and not click.confirm("Fetch them now?", default=True, err=True):
        raise ConfigurationError(f"Fetch the weights later with: batcher models pull {known.name}")
    progress = _Progress(known.name)
    pull(known.name, options.models_dir, progress.show)
    progress.finish()


class _Progress:
    """One line, redrawn in place on a terminal, and a new one now and then elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._live = sys.stderr.isatty()
        self._next_at = 0.0

    def show(self, done: int, total: int) -> None:
        """Show how many bytes are there."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + (_REDRAW_EVERY_S if self._live else _LINE_EVERY_S)
        text = f"fetching {self._name}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        click.echo(f"\r{text}\033[K" if self._live else text, nl=not self._live, err=True)

    def finish(self) -> None:
        """Say that all is there and checked."""
        text = f"{self._name} is here, and its checksum is right."
        click.echo(f"\r{text}\033[K" if self._live else text, err=True)
