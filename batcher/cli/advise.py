"""``batcher advise``: which models to take for a kind of work, and why."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.arguments import Finite
from batcher.cli.cost_arguments import TOKENS, read_dollars, read_share, volume_per
from batcher.cli.costs import INPUT_TOKENS, OUTPUT_TOKENS, tokens_of
from batcher.cli.output import duration, echo_json, echo_table, say, usd
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher.catalog.models import Model
    from batcher.catalog.privacy import Place
    from batcher.planning.advisor import Advice, Recommendation
    from batcher.planning.article_rules import Need
    from batcher.planning.history import History
    from batcher.runtime import Runtime
    from batcher.tasks.spec import TaskSpec

KINDS: Final = (
    "extraction",
    "enrichment",
    "classification",
    "routing",
    "summarisation",
    "long-documents",
    "code",
    "reasoning",
    "default",
)
_SPELLINGS: Final = {"summarization": "summarisation"}
_LONG_BY_DEFAULT: Final = 5


class _Kind(click.Choice[str]):
    """A kind of work, in either spelling."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(_SPELLINGS.get(str(value).lower(), value), param, ctx)


@click.command("advise")
@click.argument("kind", type=_Kind(KINDS, case_sensitive=False), required=False, metavar="[TYPE]")
@click.option("--task", "-t", help="A task: its own floor, and what the store measured of it, count.")
@click.option(
    "--param", "-p", "params", multiple=True, metavar="K=V", help="A parameter of the task; repeatable."
)
@click.option("--volume", type=volume_per("day"), metavar="VOLUME", help="How many: 4000 (a day), 1M/month.")
@click.option("--floor", type=read_share, metavar="SHARE",
              help="The least share of right answers that will do: 0.85. Default: the task's.")  # fmt: skip
@click.option("--privacy", type=click.Choice(["standard", "strict", "air-gapped"]), default="standard",
              show_default=True, help="strict: your own endpoints only. air-gapped: of these, this machine "
              "and private addresses.")  # fmt: skip
@click.option("--max-latency", type=Finite(0, 86_400, min_open=True), metavar="SECONDS",
              help="How long a call may take.")  # fmt: skip
@click.option("--context", type=TOKENS, metavar="TOKENS", help="Input of the longest request.")
@click.option("--max-cost", type=read_dollars, metavar="USD", help="What a request may cost.")
@click.option("--output", type=click.Choice(["text", "json", "schema"]),
              help="schema: the API must enforce it. json: checked and repaired here. Default: schema for "
              "extraction, else json.")  # fmt: skip
@click.option("--images", is_flag=True, help="Documents are pictures or scans.")
@click.option(
    "--input-tokens", type=TOKENS, help=f"Of a usual request. Default: {INPUT_TOKENS:,}, or as measured."
)
@click.option(
    "--output-tokens", type=TOKENS, help=f"Of an answer. Default: {OUTPUT_TOKENS:,}, or as measured."
)
@click.option("--all", "show_all", is_flag=True, help=f"Show all that fit, not the best {_LONG_BY_DEFAULT}.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def advise(ctx: click.Context, /, kind: str | None, show_all: bool, as_json: bool, **given: Any) -> None:
    """Rank the models for a kind of work, with reasons.

    TYPE is extraction, enrichment, classification, routing, summarisation, long-documents, code, reasoning or
    default. Models whose accuracy was measured on --task and is over the floor come first, by cost per
    correct answer; then those that rules of practice name; then the others within your limits. Calls no
    model. Exit code 1 if no model fits.
    """
    from batcher.cli.task_evidence import read_spec, read_task_history
    from batcher.planning.advisor import Advisor
    from batcher.runtime import Runtime

    settings: Settings = ctx.obj
    runtime = Runtime(settings)
    spec = read_spec(given["task"], given["params"], KINDS)
    history = read_task_history(runtime, spec)
    need = _need(kind, spec, history, given)
    advice = Advisor(runtime.catalog, _places(runtime), history).advise(need)
    if as_json:
        echo_json(_as_json(advice, runtime))
    else:
        _echo(advice, runtime, None if show_all else _LONG_BY_DEFAULT)
    ctx.exit(0 if advice.ranked else 1)


def _need(kind: str | None, spec: TaskSpec | None, history: History, given: dict[str, Any]) -> Need:
    from batcher.catalog.privacy import Privacy
    from batcher.planning.article_rules import Need, TaskType

    if kind is None and spec is None:
        raise UsageError(
            f"Say what is to be done: one of {', '.join(KINDS)}; or a task of yours, with --task"
        )
    named = _SPELLINGS.get(spec.name, spec.name) if spec else ""
    type_ = TaskType(kind or (named if named in KINDS else "default"))
    floor: Fraction | None = given["floor"]
    output = given["output"] or ("schema" if type_ is TaskType.EXTRACTION else "json")
    return Need(
        type=type_,
        tokens=tokens_of(history, given["input_tokens"], given["output_tokens"]),
        volume=given["volume"],
        floor=float(floor) if floor is not None else spec.floor if spec else None,
        privacy=Privacy(given["privacy"]),
        max_latency_s=given["max_latency"],
        context=given["context"],
        max_cost_nusd=given["max_cost"],
        schema=output == "schema",
        vision=given["images"],
    )


def _places(runtime: Runtime) -> Callable[[Model], Place]:
    from batcher.catalog.privacy import place_of

    def find(model: Model) -> Place:
        info = runtime.catalog.providers[model.provider]
        moved = runtime.settings.secret(info.base_url_env) if info.base_url_env else None
        return place_of(model, info, moved)

    return find


def _echo(advice: Advice, runtime: Runtime, most: int | None) -> None:
    say(_title(advice.need) + "\n")
    shown = advice.ranked[:most]
    if shown:
        header = ["", "MODEL", "PROVIDER", "PER REQUEST", *_monthly_header(advice.need), "A CALL", "KEY"]
        rows = [[str(rank), *_row(found, advice.need, runtime)] for rank, found in enumerate(shown, 1)]
        echo_table([header, *rows], right=range(3, len(header) - 1))
        say("")
    for rank, found in enumerate(shown, 1):
        for sentence in found.reasons:
            say(f"{rank}. {found.model.name}: {sentence}")
        for sentence in found.cautions:
            say(f"   but {sentence}")
    if not shown:
        say("No model fits. Why not:")
        for name, reason in advice.left_out.items():
            say(f"  {name}: {reason}")
    else:
        _echo_rest(advice, len(shown))
    for sentence in advice.notes:
        say(sentence)


def _echo_rest(advice: Advice, shown: int) -> None:
    say("")
    rest, out = len(advice.ranked) - shown, len(advice.left_out)
    if rest or out:
        say(f"{rest:,} more fit (--all), {out:,} do not (--json says why)")
    if advice.stand_in is not None:
        say(f"To stand in when {advice.ranked[0].model.provider} is down: {advice.stand_in.model.name}")


def _title(need: Need) -> str:
    from batcher.money import format_usd
    from batcher.planning.advisor import percent
    from batcher.planning.monthly import whole_nusd

    parts = [f"Advice for {need.type.value}: {need.tokens.input:,} + {need.tokens.output:,} tokens a request"]
    if need.volume is not None:
        day, month = whole_nusd(need.volume.per_day), whole_nusd(need.volume.per_month)
        parts.append(f"{day:,} a day ({month:,} a month)")
    if need.floor is not None:
        parts.append(f"floor {percent(need.floor)}")
    if need.privacy.value != "standard":
        parts.append(f"privacy {need.privacy.value}")
    if need.context is not None:
        parts.append(f"up to {need.context:,} tokens of input")
    if need.max_latency_s is not None:
        parts.append(f"within {need.max_latency_s:g} s")
    if need.max_cost_nusd is not None:
        parts.append(f"at most {format_usd(need.max_cost_nusd)} each")
    parts += ["schema enforced"] * need.schema + ["pictures"] * need.vision
    return ", ".join(parts)


def _monthly_header(need: Need) -> list[str]:
    return [] if need.volume is None else ["PER MONTH"]


def _row(found: Recommendation, need: Need, runtime: Runtime) -> list[str]:
    from batcher.money import format_usd
    from batcher.planning.monthly import whole_nusd

    request = found.line.request_nusd
    month = [] if need.volume is None else [format_usd(whole_nusd(request * need.volume.per_month))]
    latency = found.latency
    if latency is None:
        time = "not measured"
    else:
        time = duration(latency.seconds) if latency.is_measured else f"about {duration(latency.seconds)}"
    return [
        found.model.name,
        found.model.provider,
        format_usd(request),
        *month,
        time,
        _key(found.model, runtime),
    ]


def _key(model: Model, runtime: Runtime) -> str:
    if runtime.catalog.providers[model.provider].api_key_env is None:
        return "not needed"
    return "yes" if runtime.is_usable(model) else "no"


def _as_json(advice: Advice, runtime: Runtime) -> dict[str, Any]:
    need, stand_in = advice.need, advice.stand_in
    return {
        "need": {
            "type": need.type.value,
            "input_tokens": need.tokens.input,
            "output_tokens": need.tokens.output,
            "requests_per_day": float(need.volume.per_day) if need.volume else None,
            "requests_per_month": float(need.volume.per_month) if need.volume else None,
            "floor": need.floor,
            "privacy": need.privacy.value,
            "max_latency_s": need.max_latency_s,
            "context": need.context,
            "max_cost_usd": None if need.max_cost_nusd is None else usd(need.max_cost_nusd),
            "schema": need.schema,
            "images": need.vision,
        },
        "ranked": [_found_json(rank, found, need, runtime) for rank, found in enumerate(advice.ranked, 1)],
        "stand_in": stand_in.model.name if stand_in else None,
        "left_out": dict(advice.left_out),
        "notes": list(advice.notes),
    }


def _found_json(rank: int, found: Recommendation, need: Need, runtime: Runtime) -> dict[str, Any]:
    line, latency = found.line, found.latency
    measured = line.accuracy.measured if line.accuracy else None
    month = None if need.volume is None else line.request_nusd * need.volume.per_month
    return {
        "rank": rank,
        "model": found.model.name,
        "provider": found.model.provider,
        "place": found.place.value,
        "usable": runtime.is_usable(found.model),
        "standing": found.standing.name.lower(),
        "reasons": list(found.reasons),
        "cautions": list(found.cautions),
        "request_usd": usd(line.request_nusd),
        "month_usd": None if month is None else float(month / 1_000_000_000),
        "correct_usd": None if line.correct_nusd is None else float(line.correct_nusd / 1_000_000_000),
        "accuracy": measured.interval.share if measured else None,
        "accuracy_low": measured.interval.low if measured else None,
        "accuracy_high": measured.interval.high if measured else None,
        "scored": measured.scored if measured else 0,
        "call_seconds": latency.seconds if latency else None,
        "call_seconds_measured": latency is not None and latency.is_measured,
        "as_of": found.model.as_of,
    }
