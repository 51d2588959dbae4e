"""``batcher costs``: what every model costs a month at given tokens and volume, and per correct answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.cost_arguments import (
    TOKENS,
    GivenPrice,
    find_prices,
    read_dollars,
    read_mix,
    read_named_share,
    read_price,
    volume_per,
)
from batcher.cli.output import echo_json, echo_table, note, say, usd
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.catalog.models import Catalog, Model
    from batcher.planning.history import History
    from batcher.planning.monthly import Accuracy, CostLine, Mix, Tokens, Volume
    from batcher.runtime import Runtime

INPUT_TOKENS: Final = 1_500
OUTPUT_TOKENS: Final = 500
"""What practitioners' monthly tables are made for, together with a million requests."""


@click.command("costs")
@click.option("--requests", type=volume_per("month"), default="1000000", show_default=True, metavar="VOLUME",
              help="How many: 1000000 or 1M (a month), 5000/day.")  # fmt: skip
@click.option("--input-tokens", type=TOKENS, help=f"Of a request. Default: {INPUT_TOKENS:,}, or as measured.")
@click.option(
    "--output-tokens", type=TOKENS, help=f"Of an answer. Default: {OUTPUT_TOKENS:,}, or as measured."
)
@click.option("--model", "models", multiple=True, help="Only this model; repeatable.")
@click.option("--provider", "providers", multiple=True, help="Only models of this provider; repeatable.")
@click.option("--tier", "tiers", multiple=True, help="Only models of this tier; repeatable.")
@click.option("--price", "prices", type=read_price, multiple=True, metavar="NAME=IN/OUT",
              help="A price by hand, dollars per million tokens: GPT-4o=2.50/10.00; repeatable. Without "
              "--model, --provider, --tier or --mix these prices alone are shown.")  # fmt: skip
@click.option("--accuracy", "accuracies", type=read_named_share, multiple=True, metavar="NAME=SHARE",
              help="How often its answers are right: GPT-4o=0.92; repeatable.")  # fmt: skip
@click.option(
    "--task", "-t", help="Take accuracy, tokens and repairs as the store measured them on this task."
)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="K=V", help="A parameter of the task; repeatable."
)
@click.option("--mix", "mixes", type=read_mix, multiple=True, metavar="NAME:70,NAME:30",
              help="Requests routed to several models, in percent; repeatable.")  # fmt: skip
@click.option("--router-cost", type=read_dollars, default="0", metavar="USD",
              help="What the router of a mix costs per request, e.g. 0.0001.")  # fmt: skip
@click.option(
    "--against", metavar="NAME", help="What a mix is compared with. Default: its dearest part alone."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def costs(settings: Settings, /, as_json: bool, **given: Any) -> None:
    """What models cost a month, and per correct answer.

    One line for every model of the catalogue, cheapest first: a request, a month, and the cost per correct
    answer where accuracy is known, which is the cost of an answer, its repairs included, over that accuracy.
    A month is a twelfth of a year. Calls no model.
    """
    from batcher.runtime import Runtime

    if given["against"] and not given["mixes"]:
        raise UsageError("--against goes with --mix")
    if given["router_cost"] and not given["mixes"]:
        raise UsageError("--router-cost goes with --mix")
    table = _Table.read(Runtime(settings), given)
    if as_json:
        echo_json(table.as_json())
    else:
        table.echo()


def tokens_of(history: History, input_tokens: int | None, output_tokens: int | None) -> Tokens:
    """What a request takes: as the user says, else as was measured, else the usual table's."""
    from batcher.planning.monthly import Tokens, measured_tokens

    usual = measured_tokens(history) or Tokens(INPUT_TOKENS, OUTPUT_TOKENS)
    found = Tokens(
        usual.input if input_tokens is None else input_tokens,
        usual.output if output_tokens is None else output_tokens,
    )
    if not found.total:
        raise UsageError("A request has tokens. Give --input-tokens or --output-tokens")
    return found


@dataclass(frozen=True)
class _Table:
    """What is shown."""

    catalog: Catalog
    tokens: Tokens
    volume: Volume
    lines: Sequence[CostLine]
    mixes: Sequence[tuple[Mix, CostLine]]

    @classmethod
    def read(cls, runtime: Runtime, given: Mapping[str, Any]) -> _Table:
        """Everything of a command line, looked up."""
        from batcher.cli.task_evidence import read_spec, read_task_history
        from batcher.planning.monthly import Mix, cheapest_first

        history = read_task_history(runtime, read_spec(given["task"], given["params"]))
        tokens = tokens_of(history, given["input_tokens"], given["output_tokens"])
        maker = _Lines(runtime.catalog, tokens, history, given["prices"], given["accuracies"])
        mixes = []
        for parts in given["mixes"]:
            mix = Mix(tuple((maker.line(name), share) for name, share in parts), given["router_cost"])
            mixes.append((mix, maker.line(given["against"]) if given["against"] else mix.dearest()))
        shown = {line.name: line for line in maker.shown(given["models"], given["providers"], given["tiers"])}
        if not shown and not mixes:
            shown = {name: maker.line(name) for name in runtime.catalog.models}
        for mix, against in mixes:
            shown |= {line.name: line for line in (*(line for line, _ in mix.parts), against)}
        return cls(runtime.catalog, tokens, given["requests"], cheapest_first(list(shown.values())), mixes)

    def echo(self) -> None:
        """Print it for people."""
        from batcher.planning.monthly import whole_nusd

        per_month = self.volume.per_month
        daily = f" ({whole_nusd(self.volume.per_day):,} a day)" if self.volume.per == "day" else ""
        say(
            f"{self.tokens.input:,} input and {self.tokens.output:,} output tokens a request, "
            f"{whole_nusd(per_month):,} requests a month{daily}\n"
        )
        echo_table([self._header(), *map(self._row, self.lines)], right=range(2, 2 + len(self._header()) - 3))
        for mix, against in self.mixes:
            say("")
            say(self._mix_words(mix, against))
        too_long = [line.name for line in self.lines if not line.fits]
        if too_long:
            note(
                f"Too long for one call of {', '.join(too_long)}: documents are split there, which costs more"
            )

    @property
    def _is_daily(self) -> bool:
        return self.volume.per == "day"

    @property
    def _has_accuracy(self) -> bool:
        return any(line.accuracy for line in self.lines)

    def _header(self) -> tuple[str, ...]:
        day = ("PER DAY",) if self._is_daily else ()
        known = ("ACCURACY", "PER CORRECT ANSWER") if self._has_accuracy else ()
        return ("MODEL", "PROVIDER", "IN $/M", "OUT $/M", "PER REQUEST", *day, "PER MONTH", *known, "TIER")

    def _row(self, line: CostLine) -> tuple[str, ...]:
        day = (_dollars(line.request_nusd * self.volume.per_day),) if self._is_daily else ()
        charged = line.prices.charged(line.tokens.input)
        correct = line.correct_nusd
        known = (_accuracy(line.accuracy), "" if correct is None else _dollars(correct))
        return (
            line.name,
            line.model.provider if line.model else "by hand",
            f"{usd(charged.input_nusd):g}",
            f"{usd(charged.output_nusd):g}",
            _dollars(Fraction(line.request_nusd)),
            *day,
            _dollars(line.request_nusd * self.volume.per_month),
            *(known if self._has_accuracy else ()),
            ", ".join(self._tiers(line.model)),
        )

    def _mix_words(self, mix: Mix, against: CostLine) -> str:
        saved = mix.saved_share(against)
        month = mix.request_nusd * self.volume.per_month
        words = f"{mix.name}: {_dollars(mix.request_nusd)} a request, {_dollars(month)} a month"
        if mix.router_nusd:
            words += f", of it {_dollars(mix.router_nusd * self.volume.per_month)} for the router"
        if saved is not None:
            change = f"{abs(float(saved * 100)):.1f} % {'less' if saved >= 0 else 'more'}"
            words += f"; {change} than {against.name} alone"
        if mix.correct_nusd is not None and mix.accuracy is not None:
            words += (
                f"; {_dollars(mix.correct_nusd)} per correct answer at an accuracy of "
                f"{float(mix.accuracy * 100):.1f} %"
            )
        return words

    def _tiers(self, model: Model | None) -> list[str]:
        return [
            tier for tier, names in self.catalog.tiers.items() if model is not None and model.name in names
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "input_tokens": self.tokens.input,
            "output_tokens": self.tokens.output,
            "requests_per_day": float(self.volume.per_day),
            "requests_per_month": float(self.volume.per_month),
            "models": [self._line_json(line) for line in self.lines],
            "mixes": [self._mix_json(mix, against) for mix, against in self.mixes],
        }

    def _line_json(self, line: CostLine) -> dict[str, Any]:
        model, accuracy = line.model, line.accuracy
        measured = accuracy.measured if accuracy else None
        charged = line.prices.charged(line.tokens.input)
        return {
            "name": line.name,
            "provider": model.provider if model else None,
            "tiers": self._tiers(model),
            "input_usd": usd(charged.input_nusd),
            "output_usd": usd(charged.output_nusd),
            "request_usd": usd(line.request_nusd),
            "day_usd": _number(line.request_nusd * self.volume.per_day),
            "month_usd": _number(line.request_nusd * self.volume.per_month),
            "accuracy": float(accuracy.share) if accuracy else None,
            "accuracy_low": measured.interval.low if measured else None,
            "accuracy_high": measured.interval.high if measured else None,
            "scored": measured.scored if measured else 0,
            "extra_share": float(line.extra_share),
            "correct_usd": _number(line.correct_nusd),
            "fits": line.fits,
            "as_of": model.as_of if model else None,
        }

    def _mix_json(self, mix: Mix, against: CostLine) -> dict[str, Any]:
        saved = mix.saved_share(against)
        return {
            "parts": [{"name": line.name, "share": float(share)} for line, share in mix.parts],
            "router_usd": usd(mix.router_nusd),
            "request_usd": _number(mix.request_nusd),
            "day_usd": _number(mix.request_nusd * self.volume.per_day),
            "month_usd": _number(mix.request_nusd * self.volume.per_month),
            "against": against.name,
            "against_month_usd": _number(against.request_nusd * self.volume.per_month),
            "saved_share": None if saved is None else float(saved),
            "accuracy": None if mix.accuracy is None else float(mix.accuracy),
            "correct_usd": _number(mix.correct_nusd),
        }


class _Lines:
    """Makes the lines that names mean."""

    def __init__(
        self,
        catalog: Catalog,
        tokens: Tokens,
        history: History,
        prices: Sequence[GivenPrice],
        accuracies: Sequence[tuple[str, Fraction]],
    ) -> None:
        self._catalog, self._tokens, self._history, self._prices = catalog, tokens, history, prices
        self._accuracies = {_name(find_prices(name, prices, catalog)): share for name, share in accuracies}

    def line(self, name: str) -> CostLine:
        """The line of a price given by hand, or of a model."""
        from batcher.planning.monthly import Accuracy, CostLine, measured_accuracy, measured_extra

        found = find_prices(name, self._prices, self._catalog)
        if isinstance(found, GivenPrice):
            share = self._accuracies.get(found.name)
            accuracy = None if share is None else Accuracy(share)
            return CostLine(found.name, found.prices, self._tokens, accuracy=accuracy)
        model = self._catalog.model(found)
        share = self._accuracies.get(found)
        accuracy = measured_accuracy(self._history, found) if share is None else Accuracy(share)
        extra = measured_extra(self._history, found)
        return CostLine(found, model.prices, self._tokens, model, accuracy, extra)

    def shown(self, models: Sequence[str], providers: Sequence[str], tiers: Sequence[str]) -> list[CostLine]:
        """Prices given by hand, models named, and those of providers and tiers that were named."""
        for known, names, what in (
            (self._catalog.providers, providers, "provider"),
            (self._catalog.tiers, tiers, "tier"),
        ):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise UsageError(f"There is no {what} {unknown[0]!r}. There are: {', '.join(known)}")
        names = [*(price.name for price in self._prices), *models]
        names += [model.name for model in self._catalog.models.values() if model.provider in providers]
        names += [model.name for tier in tiers for model in self._catalog.tier(tier)]
        return [self.line(name) for name in names]


def _name(found: str | GivenPrice) -> str:
    return found.name if isinstance(found, GivenPrice) else found


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return ""
    told = f"{float(accuracy.share * 100):.1f} %"
    measured = accuracy.measured
    if measured is None:
        return f"{told} as given"
    low, high = 100 * measured.interval.low, 100 * measured.interval.high
    return f"{told} ({low:.1f} to {high:.1f} %, {measured.scored:,} scored)"


def _dollars(amount: Fraction) -> str:
    from batcher.money import format_usd
    from batcher.planning.monthly import whole_nusd

    return format_usd(whole_nusd(amount))


def _number(amount: Fraction | None) -> float | None:
    return None if amount is None else float(amount / 1_000_000_000)
