"""``batcher tasks``: what can be done to a document, and whether a task of one's own is in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.output import echo_table

if TYPE_CHECKING:
    from batcher.tasks.checking import Finding
    from batcher.tasks.definition import Task

_PARAM_HELP = "A parameter of the task; repeatable. Lists: a,b,c or @FILE with one per line."


@click.group("tasks", help="List, show, check and make tasks.")
def tasks() -> None:
    """The ``tasks`` command group."""


@tasks.command("list", help="The installed tasks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """Prints one line per installed task."""
    from dataclasses import asdict

    from batcher.tasks.registry import list_tasks

    infos = list_tasks()
    if as_json:
        _echo_json([asdict(info) for info in infos])
        return
    rows: list[tuple[str, ...]] = [("NAME", "TIER", "FLOOR", "FROM", "WHAT IT DOES")]
    for info in infos:
        floor = "" if info.floor is None else f"{info.floor:.0%}"
        about = f"cannot be loaded: {info.error}" if info.error else info.description
        rows.append((info.name, info.tier, floor, info.origin, about))
    echo_table(rows)


@tasks.command("show", help="A task's parameters, limits, schema and prompt. NAME may be a path.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(name: str, as_json: bool) -> None:
    """Prints everything about one task, the steps before the last one first."""
    from batcher.tasks.registry import load_task

    about = _about(load_task(name))
    if as_json:
        _echo_json(about)
        return
    params, schema, prompt = about.pop("params"), about.pop("schema"), about.pop("prompt")
    example, stages = about.pop("example"), about.pop("stages")
    starts, _ = about.pop("starts"), about.pop("router")
    echo_table([(key.replace("_", " "), _plain(value)) for key, value in about.items()])
    if params:
        click.echo("\nparameters")
        echo_table(
            [
                (f"  {param['name']}", "required" if param["required"] else "", param["description"])
                for param in params
            ]
        )
    if starts:
        click.echo("\nwhere documents start")
        click.echo("\n".join(f"  {line}" for line in starts))
    if example:
        words = " ".join(f"--param '{key}={value}'" for key, value in example.items())
        click.echo(f"\nexample: {words}")
    for stage in stages:
        _echo_stage(stage)
    if schema is None:
        click.echo("\nPrompt and schema depend on parameters, and the task gives no example of them.")
        return
    click.echo(f"\nprompt\n{prompt}\n\nschema")
    _echo_json(schema)


@tasks.command("check", help="Look for mistakes in a task without calling a model. TASK is a name or a path.")
@click.argument("task")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help=_PARAM_HELP)
@click.pass_context
def check_command(ctx: click.Context, task: str, params: tuple[str, ...]) -> None:
    """Prints the findings; raises TaskError if one of them is an error."""
    from batcher.cli.entry_view import entry_lines
    from batcher.errors import TaskError
    from batcher.tasks.checking import check_task
    from batcher.tasks.params import parse_assignments
    from batcher.tasks.registry import load_task

    findings = check_task(task, parse_assignments(params))
    findings = [*_judge_findings(ctx, task), *findings]
    for finding in findings:
        click.echo(f"{finding.level}: {finding.message}")
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        raise TaskError(f"{task} has {errors} {'error' if errors == 1 else 'errors'}; see above.")
    for line in entry_lines(load_task(task)):
        click.echo(f"starts: {line}")
    click.echo(f"{task}: ready to use" if not findings else f"{task}: usable")


def _judge_findings(ctx: click.Context, ref: str) -> list[Finding]:
    """A judge that the task or its scorer names, and that is neither a tier nor a model."""
    from batcher.catalog.models import load_catalog
    from batcher.errors import ConfigurationError, TaskError
    from batcher.planning.sampling import check_exists
    from batcher.quality.sampling import chosen_judge
    from batcher.settings import load_settings
    from batcher.tasks.checking import Finding
    from batcher.tasks.registry import load_task

    try:
        judge = chosen_judge([load_task(ref).usual_judge])
    except TaskError:
        return []  # told by the check itself
    try:
        if judge is not None:
            check_exists(load_catalog(load_settings(ctx.find_root().params.get("config"))), judge)
    except ConfigurationError as error:
        return [Finding("error", str(error))]
    return []


@tasks.command("new", help="Write a small working task into DIR, to be edited.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", help="The task's name. Default: the folder's.")
def new_command(folder: Path, name: str | None) -> None:
    """Writes the folder and says what to do next."""
    from batcher.tasks.scaffold import new_task

    file = new_task(folder, name)
    click.echo(f"Wrote {file}, with prompt.md and golden.jsonl beside it. Next: batcher tasks check {folder}")


def _about(task: Task) -> dict[str, Any]:
    """A task as plain values; prompt and schema as the example parameters make them, None without these."""
    from dataclasses import asdict

    from batcher.cli.entry_view import entry_lines, router_json
    from batcher.tasks.params import describe_params

    infos = describe_params(task.params)
    shown = bool(task.example) or not any(info.required for info in infos)
    spec = task.spec(task.example) if shown else None
    return {
        "name": task.name,
        "version": task.version,
        "description": task.description,
        "tier": task.tier,
        "ladder": list(task.ladder),
        "floor": task.floor,
        "correct_at": task.correct_at,
        "max_output_tokens": task.max_output_tokens,
        "temperature": task.temperature,
        "long_documents": task.long_documents,
        "folder": str(task.home or ""),
        "params": [asdict(info) for info in infos],
        "example": dict(task.example),
        "starts": entry_lines(task),
        "router": router_json(task),
        "stages": _stages(task, shown=shown),
        "prompt": spec.instructions if spec else None,
        "schema": spec.schema if spec else None,
    }


def _stages(task: Task, *, shown: bool) -> list[dict[str, Any]]:
    """The steps before the last as plain values, in order."""
    specs = task.stage_specs(task.example) if shown else [None] * len(task.before)
    return [
        {
            "name": stage.name,
            "tier": stage.tier,
            "ladder": list(stage.ladder),
            "hands_over": stage.hands_over,
            "max_output_tokens": stage.max_output_tokens,
            "temperature": stage.temperature,
            "long_documents": stage.long_documents,
            "prompt": spec.instructions if spec else None,
            "schema": spec.schema if spec else None,
        }
        for stage, spec in zip(task.before, specs, strict=True)
    ]


def _echo_stage(stage: dict[str, Any]) -> None:
    about = dict(stage)
    name, schema, prompt = about.pop("name"), about.pop("schema"), about.pop("prompt")
    click.echo(f"\nstage {name}")
    echo_table([(f"  {key.replace('_', ' ')}", _plain(value)) for key, value in about.items()])
    if schema is not None:
        click.echo(f"\nits prompt\n{prompt}\n\nits schema")
        _echo_json(schema)


def _plain(value: Any) -> str:
    return " -> ".join(value) if isinstance(value, list) else str(value)


def _echo_json(value: Any) -> None:
    import orjson

    click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())
