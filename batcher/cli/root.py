"""The root command: global options, and the table of all commands."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from batcher import __version__
from batcher.cli.lazy import LazyCommand, LazyGroup

if TYPE_CHECKING:
    from batcher.settings import Settings


@dataclass(slots=True)
class Invocation:
    """What the last resort needs to know of a call of ``batcher`` that ended in an error."""

    verbose: bool = False
    settings: Settings | None = None


COMMANDS: Final = {
    "submit": LazyCommand("batcher.cli.submit:submit", "Put documents through a task, and run it."),
    "plan": LazyCommand("batcher.cli.plan:plan", "Say what a submission would cost and take."),
    "ladder": LazyCommand("batcher.cli.ladder:ladder", "Ladders of models, learned from known answers."),
    "evaluate": LazyCommand(
        "batcher.cli.evaluate:evaluate", "Measure models on documents whose right answer is known."
    ),
    "status": LazyCommand("batcher.cli.status:status", "How far a job is."),
    "jobs": LazyCommand("batcher.cli.status:jobs", "List the jobs, newest first."),
    "results": LazyCommand("batcher.cli.results:results", "Write a job's results, also in mid-run."),
    "review": LazyCommand("batcher.cli.review:review", "Label drawn answers: right, wrong, or fixed."),
    "retry": LazyCommand("batcher.cli.control:retry", "Try failed items of a job again."),
    "resume": LazyCommand("batcher.cli.control:resume", "Go on with a job, or with all unfinished ones."),
    "pause": LazyCommand("batcher.cli.control:pause", "Stop a job until it is resumed."),
    "cancel": LazyCommand("batcher.cli.control:cancel", "Stop a job for good."),
    "budget": LazyCommand("batcher.cli.budget:budget", "Show or set the caps on spending."),
    "spend": LazyCommand("batcher.cli.spend:spend", "Where the money went."),
    "alerts": LazyCommand(
        "batcher.cli.alerts:alerts", "List alerts, test their channels, deliver what is pending."
    ),
    "tasks": LazyCommand("batcher.cli.tasks:tasks", "List, show, check and make tasks."),
    "models": LazyCommand(
        "batcher.cli.models:models",
        "List models, check their prices and refresh them.",
        {"pull": "batcher.cli.models_pull:pull"},
    ),
    "advise": LazyCommand("batcher.cli.advise:advise", "Rank the models for a kind of work, with reasons."),
    "costs": LazyCommand("batcher.cli.costs:costs", "What models cost a month, and per correct answer."),
    "breakeven": LazyCommand("batcher.cli.breakeven:breakeven", "Self-hosting against an API."),
    "doctor": LazyCommand("batcher.cli.doctor:doctor", "Check keys, endpoints, store and models."),
    "ingest": LazyCommand("batcher.cli.detaching:ingest", "Read a job's corpus; what submit --detach runs."),
    "worker": LazyCommand("batcher.cli.worker:worker", "Do the work that submit hands over."),
    "workers": LazyCommand("batcher.cli.workers:workers", "Who is alive, on what, waiting for what."),
    "db": LazyCommand("batcher.cli.db:db", "Show or upgrade the schema of the store."),
    "simulate": LazyCommand("batcher.cli.simulate:simulate", "Serve all vendors' APIs on loopback."),
    "init": LazyCommand("batcher.cli.init:init", "Write a commented batcher.toml."),
}

_WITHOUT_SETTINGS: Final = frozenset({"init", "simulate", "tasks"})
"""Commands that work although the settings in force may be broken."""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Put documents through language models, cheaply, under a daily cap that holds.\n\n"
    "Start with: batcher submit docs/ --task enrichment",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The batcher.toml to read.",
    metavar="FILE",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the store and of model weights.",
    metavar="DIR",
)
@click.option("--database", help="SQLAlchemy URL of the store.", metavar="URL")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="batcher", message="%(prog)s %(version)s")
@click.pass_context
def root(
    ctx: click.Context, config: Path | None, home: Path | None, database: str | None, verbose: bool
) -> None:
    """Loads the settings and hands them to the command as ``ctx.obj``."""
    invocation = ctx.find_object(Invocation) or Invocation()
    invocation.verbose = verbose
    if ctx.invoked_subcommand not in _WITHOUT_SETTINGS:
        _load_settings(ctx, invocation, config, home, database)
    gc.enable()  # ``batcher.cli.main`` held it back until here


def _load_settings(
    ctx: click.Context, invocation: Invocation, config: Path | None, home: Path | None, database: str | None
) -> None:
    from batcher.cli.output import note, show_times_in
    from batcher.settings import load_settings, unknown_variables

    for warning in unknown_variables():
        note(f"Warning: {warning}")
    settings = load_settings(config, home=home, database_url=database)
    invocation.settings = settings
    show_times_in(settings.time_zone)
    ctx.obj = settings
