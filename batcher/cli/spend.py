"""``batcher spend``: where the money went."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

from batcher.cli.output import echo_json, echo_table, note, usd
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.spend import Spend


@click.command("spend")
@click.option(
    "--by",
    type=click.Choice(["day", "model", "task", "job"]),
    default="day",
    show_default=True,
    help="What to sum by.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def spend(settings: Settings, by: str, as_json: bool) -> None:
    """Where the money went.

    Calls whose outcome is not known stand apart: they are booked at the most that they can have cost.
    """
    from batcher.budget.spend import View, read_spend
    from batcher.runtime import Runtime

    with Runtime(settings).store.read() as connection:
        rows = read_spend(connection, View(by))
    if as_json:
        echo_json([_json(row, by) for row in rows])
    elif not rows:
        note("Nothing was spent yet.")
    else:
        header = (by.upper(), "CALLS", "TOKENS IN", "CACHED", "TOKENS OUT", "COST", "UNKNOWN", "IN FLIGHT")
        table = [header, *map(_row, rows)]
        if len(rows) > 1:
            table.append(_row(_total(rows)))
        echo_table(table, right=range(1, len(header)))


def _json(row: Spend, by: str) -> dict[str, object]:
    return {
        by: int(row.key) if by == "job" else row.key,
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": usd(row.settled_nusd),
        "unknown_usd": usd(row.unknown_nusd),
        "in_flight_usd": usd(row.open_nusd),
    }


def _row(row: Spend) -> tuple[str, ...]:
    from batcher.money import format_usd

    counts = (row.calls, row.input_tokens, row.cached_tokens, row.output_tokens)
    amounts = (row.settled_nusd, row.unknown_nusd, row.open_nusd)
    return (row.key, *(f"{count:,}" for count in counts), *map(format_usd, amounts))


def _total(rows: list[Spend]) -> Spend:
    from batcher.budget.spend import Spend

    names = [field.name for field in fields(Spend) if field.name != "key"]
    return Spend("all", *(sum(getattr(row, name) for row in rows) for name in names))
