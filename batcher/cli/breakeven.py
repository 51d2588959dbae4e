"""``batcher breakeven``: GPUs of one's own against an API."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from batcher.cli.arguments import Finite
from batcher.cli.cost_arguments import (
    TOKENS,
    GivenPrice,
    find_prices,
    read_dollars,
    read_price,
    read_share,
    volume_per,
)
from batcher.cli.costs import INPUT_TOKENS, OUTPUT_TOKENS
from batcher.cli.output import echo_json, echo_table, say, usd
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.catalog.models import Catalog
    from batcher.planning.monthly import Tokens, Volume
    from batcher.planning.self_hosting import Gpu, SelfHosting

_GPU_USD: Final = "1460"
_TOKENS_PER_S: Final = 500
"""A GPU at $2 an hour and what a 70B model gives on it, in practitioners' articles of early 2026."""


@click.command("breakeven")
@click.option("--requests", type=volume_per("month"), default="1000000", show_default=True, metavar="VOLUME",
              help="How many: 1000000 or 1M (a month), 5000/day.")  # fmt: skip
@click.option("--input-tokens", type=TOKENS, default=INPUT_TOKENS, show_default=True, help="Of a request.")
@click.option("--output-tokens", type=TOKENS, default=OUTPUT_TOKENS, show_default=True, help="Of an answer.")
@click.option("--tokens", type=click.IntRange(1, 1_000_000_000),
              help="Input and output of a request together; goes with --api-price.")  # fmt: skip
@click.option("--api-price", type=read_dollars, metavar="USD",
              help="Dollars per million tokens, input and output alike.")  # fmt: skip
@click.option("--price", "prices", type=read_price, multiple=True, metavar="NAME=IN/OUT",
              help="An API's price by hand, dollars per million tokens; repeatable.")  # fmt: skip
@click.option(
    "--model", "models", multiple=True, help="A model of the catalogue; repeatable. Default: all hosted."
)
@click.option("--gpu-cost", type=read_dollars, default=_GPU_USD, show_default=True, metavar="USD",
              help="What a GPU costs a month.")  # fmt: skip
@click.option("--throughput", type=Finite(0, 10_000_000, min_open=True), default=_TOKENS_PER_S,
              show_default=True, help="Tokens a second that a GPU gets through.")  # fmt: skip
@click.option("--busy", type=read_share, default="100%", show_default=True, metavar="SHARE",
              help="The share of the month that it works: 0.33 for nights only.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def breakeven(settings: Settings, /, as_json: bool, **given: Any) -> None:
    """Self-hosting against an API.

    How many GPUs a volume takes (tokens per month / throughput / seconds per month, rounded up), what they
    cost beside the API, and from how many requests a month they pay. A month is 730 hours. People, spare
    machines and electricity that you pay on top are not in it.
    """
    from batcher.catalog.models import load_catalog
    from batcher.planning.self_hosting import Gpu

    gpu = Gpu(given["gpu_cost"], Fraction(str(given["throughput"])), given["busy"])
    found = _comparisons(load_catalog(settings), given, gpu)
    volume: Volume = given["requests"]
    if as_json:
        echo_json(_as_json(found, volume, gpu))
    else:
        _echo(found, volume, gpu)


def _comparisons(catalog: Catalog, given: dict[str, Any], gpu: Gpu) -> list[tuple[str, SelfHosting]]:
    """Each API's name and comparison, dearest API first."""
    from batcher.planning.self_hosting import SelfHosting

    requests, tokens = given["requests"].per_month, _tokens(given)
    named = [find_prices(name, (), catalog) for name in given["models"]]
    if given["api_price"] is None and not named and not given["prices"]:
        named = [
            model.name for model in catalog.models.values() if catalog.providers[model.provider].api_key_env
        ]
    costs = [_request_nusd(which, tokens, catalog) for which in (*given["prices"], *named)]
    if given["api_price"] is not None:
        blended = Fraction(given["api_price"] * tokens.total, 1_000_000)
        costs.append((f"${usd(given['api_price']):g}/M", blended))
    found = [(name, SelfHosting(requests, tokens.total, cost, gpu)) for name, cost in dict(costs).items()]
    return sorted(found, key=lambda pair: (-pair[1].request_nusd, pair[0]))


def _tokens(given: dict[str, Any]) -> Tokens:
    from batcher.planning.monthly import Tokens

    if given["tokens"] is not None:
        if _is_given("input_tokens") or _is_given("output_tokens"):
            raise UsageError(
                "--tokens is input and output together: leave --input-tokens and --output-tokens out"
            )
        if given["api_price"] is None or given["models"] or given["prices"]:
            raise UsageError("--tokens goes with --api-price; else give --input-tokens and --output-tokens")
        return Tokens(given["tokens"], 0)
    found = Tokens(given["input_tokens"], given["output_tokens"])
    if not found.total:
        raise UsageError("A request has tokens. Give --input-tokens or --output-tokens")
    return found


def _is_given(name: str) -> bool:
    """Whether an option with a default was named."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _request_nusd(which: str | GivenPrice, tokens: Tokens, catalog: Catalog) -> tuple[str, Fraction]:
    from batcher.planning.monthly import CostLine

    if isinstance(which, GivenPrice):
        return which.name, Fraction(CostLine(which.name, which.prices, tokens).request_nusd)
    return which, Fraction(CostLine(which, catalog.model(which).prices, tokens).request_nusd)


def _echo(found: Sequence[tuple[str, SelfHosting]], volume: Volume, gpu: Gpu) -> None:
    from batcher.money import format_usd
    from batcher.planning.monthly import whole_nusd
    from batcher.planning.self_hosting import RULE_OF_THUMB

    own = found[0][1]
    busy = "" if gpu.busy_share == 1 else f", at work {float(gpu.busy_share):.0%} of the month"
    plural = "" if own.gpus == 1 else "s"
    say(
        f"{whole_nusd(volume.per_month):,} requests a month of {own.tokens_per_request:,} tokens: "
        f"{own.gpus:,} GPU{plural} at {format_usd(gpu.month_nusd)} a month and "
        f"{float(gpu.tokens_per_s):,g} tokens/s{busy}, {format_usd(own.own_nusd)} a month\n"
    )
    rows = [("API", "PER MONTH", "OWN GPUS", "CHEAPER", "BREAKS EVEN AT", "FOR GOOD FROM")]
    rows += [
        (
            name,
            format_usd(whole_nusd(each.api_nusd)),
            format_usd(each.own_nusd),
            "own GPUs" if each.own_is_cheaper else "API",
            _volume(each.breaks_even_at),
            _volume(each.pays_for_good_from),
        )
        for name, each in found
    ]
    echo_table(rows, right=(1, 2, 4, 5))
    say(
        f"\nVolumes are requests a month. Rule of thumb: below {RULE_OF_THUMB:,} the API wins. "
        "Measure the throughput of your own model and texts before you rent."
    )


def _volume(requests: int | None) -> str:
    return "never" if requests is None else f"{requests:,}"


def _as_json(found: Sequence[tuple[str, SelfHosting]], volume: Volume, gpu: Gpu) -> dict[str, Any]:
    from batcher.planning.self_hosting import RULE_OF_THUMB, SECONDS_PER_MONTH

    own = found[0][1]
    return {
        "requests_per_month": float(volume.per_month),
        "tokens_per_request": own.tokens_per_request,
        "tokens_per_month": float(volume.per_month * own.tokens_per_request),
        "seconds_per_month": int(SECONDS_PER_MONTH),
        "gpu_month_usd": usd(gpu.month_nusd),
        "tokens_per_s": float(gpu.tokens_per_s),
        "busy_share": float(gpu.busy_share),
        "gpus": own.gpus,
        "own_usd": usd(own.own_nusd),
        "rule_of_thumb_requests": RULE_OF_THUMB,
        "apis": [
            {
                "name": name,
                "request_usd": float(each.request_nusd / 1_000_000_000),
                "api_usd": float(each.api_nusd / 1_000_000_000),
                "cheaper": "own" if each.own_is_cheaper else "api",
                "breaks_even_at": each.breaks_even_at,
                "pays_for_good_from": each.pays_for_good_from,
            }
            for name, each in found
        ],
    }
