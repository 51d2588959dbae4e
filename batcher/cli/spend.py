"""``batcher spend``: where the money went, what was saved, and the days against their cap."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import echo_json, echo_table, note, say, usd, usd_or_none
from batcher.cli.reconcile import reconcile
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.savings import Saving
    from batcher.budget.spend import DayOfSpend, Period, Spend
    from batcher.runtime import Runtime

_VIEWS: Final = ("day", "model", "provider", "task", "stage", "tier", "job", "purpose")
_LONG_AGO: Final = "2000-01-01"


@click.group("spend", invoke_without_command=True, subcommand_metavar="[COMMAND] [ARGS]...")
@click.option("--by", type=click.Choice(_VIEWS), default="day", show_default=True, help="What to sum by.")
@click.option("--since", metavar="DATE", help="From this day on, YYYY-MM-DD. Without it: the last 30 days.")
@click.option("--until", metavar="DATE", help="Up to this day. Without it: up to today.")
@click.option("--job", type=JOB_ID, metavar="JOB", help="Only this job's calls, on whatever day.")
@click.option(
    "--savings", is_flag=True, help="What reuse, caching and cheap tiers saved, and how that is known."
)
@click.option("--chart", is_flag=True, help="A bar for every day, against the daily cap.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def spend(
    ctx: click.Context,
    by: str,
    since: str | None,
    until: str | None,
    job: int | None,
    savings: bool,
    chart: bool,
    as_json: bool,
) -> None:
    """Where the money went.

    Days are the ledger's: those on which calls were reserved. Calls whose outcome is not known stand apart:
    they are booked at the most that they can have cost. On a terminal the chart stands beneath the days.
    """
    if ctx.invoked_subcommand is not None:
        return
    from batcher.runtime import Runtime

    if by != "day" and (savings or chart):
        view = "--savings" if savings else "--chart"
        raise UsageError(f"{view} is a view of its own, and --by {by} another. Ask for one at a time")
    if savings and chart:
        raise UsageError("--savings and --chart are two views. Ask for one at a time")
    if chart and job is not None:
        raise UsageError(
            "The chart holds all jobs against the daily cap. For one job: batcher spend --job JOB"
        )
    settings: Settings = ctx.obj
    runtime = Runtime(settings)
    period = _period(runtime, since, until, job)
    if savings:
        _show_savings(runtime, period, job, as_json=as_json)
    elif chart and period is not None:
        _show_chart(runtime, period, as_json=as_json)
    else:
        _show_view(runtime, by, period, job, as_json=as_json)


spend.add_command(reconcile)


def _period(runtime: Runtime, since: str | None, until: str | None, job: int | None) -> Period | None:
    from batcher.budget.spend import Period, latest_day
    from batcher.store.jobs import get_job

    first, last = _day(since, "--since"), _day(until, "--until")
    with runtime.store.read() as connection:
        if job is not None:
            get_job(connection, job)
            if first is None and last is None:
                return None
            first = first or _LONG_AGO
        now = runtime.store.now(connection)
        last = last or max(latest_day(connection, now, runtime.settings.time_zone), first or "")
    period = Period.ending(last) if first is None else Period(first, last)
    if period.since > period.until:
        raise UsageError(f"--since {first} is after --until {last}. Give the earlier day to --since")
    return period


def _day(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no day. Write it like 2026-11-20") from error


def _show_view(runtime: Runtime, by: str, period: Period | None, job: int | None, *, as_json: bool) -> None:
    from batcher.budget.spend import View, ledger_by_key, ledger_total, read_days, read_spend, total_of

    view = View(by)
    with runtime.store.read() as connection:
        rows = read_spend(connection, view, period, job)
        accounts = ledger_by_key(connection, view, period) if job is None else {}
        booked_nusd = ledger_total(connection, period, job)
        in_chart = by == "day" and job is None and not as_json and sys.stdout.isatty()
        days = read_days(connection, period) if in_chart and rows and period is not None else []
    if as_json:
        echo_json([_json(row, by, accounts) for row in rows])
    elif not rows:
        note(f"Nothing was spent {_when(period)}.")
    else:
        header = (by.upper(), "CALLS", "TOKENS IN", "CACHED", "TOKENS OUT", "COST", "UNKNOWN", "IN FLIGHT")
        total = total_of(rows)
        table = [header, *map(_row, rows)]
        if len(rows) > 1:
            table.append(_row(total))
        echo_table(table, right=range(1, len(header)))
        note(_against_ledger(total, booked_nusd, period))
    if days:
        from batcher.cli.spend_chart import show_chart

        say("")
        show_chart(days)


def _against_ledger(total: Spend, booked_nusd: int | None, period: Period | None) -> str:
    """Whether the calls and the ledger's accounts say the same."""
    from batcher.money import format_usd, nusd_to_usd

    when = _when(period)
    if booked_nusd is None:
        return f"Calls {when}; the ledger has no account of one job's days to hold them against."
    if booked_nusd == total.booked_nusd:
        return f"The ledger holds {format_usd(booked_nusd)} as spent {when}: the same, to the nano-dollar."
    return (
        f"Warning: the ledger holds ${nusd_to_usd(booked_nusd):f} as spent {when},"
        f" and these calls come to ${nusd_to_usd(total.booked_nusd):f}. Please report it"
    )


def _when(period: Period | None) -> str:
    return "by this job" if period is None else f"from {period.since} to {period.until}"


def _json(row: Spend, by: str, accounts: Mapping[str, int]) -> dict[str, object]:
    return {
        by: int(row.key) if by == "job" else row.key,
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": usd(row.settled_nusd),
        "unknown_usd": usd(row.unknown_nusd),
        "in_flight_usd": usd(row.open_nusd),
        "booked_usd": usd(row.booked_nusd),
        "ledger_usd": usd_or_none(accounts.get(row.key)),
    }


def _row(row: Spend) -> tuple[str, ...]:
    from batcher.money import format_usd

    counts = (row.calls, row.input_tokens, row.cached_tokens, row.output_tokens)
    amounts = (row.settled_nusd, row.unknown_nusd, row.open_nusd)
    return (row.key, *(f"{count:,}" for count in counts), *map(format_usd, amounts))


def _show_chart(runtime: Runtime, period: Period, *, as_json: bool) -> None:
    from batcher.budget.spend import read_days
    from batcher.cli.spend_chart import show_chart

    with runtime.store.read() as connection:
        days = read_days(connection, period)
    if as_json:
        echo_json([_json_of_day(day) for day in days])
    else:
        show_chart(days)


def _json_of_day(day: DayOfSpend) -> dict[str, object]:
    spent = day.spend
    return {
        "day": day.day,
        "cap_usd": usd_or_none(day.cap_nusd),
        "cost_usd": usd(spent.settled_nusd) if spent else 0.0,
        "unknown_usd": usd(spent.unknown_nusd) if spent else 0.0,
        "in_flight_usd": usd(spent.open_nusd) if spent else 0.0,
    }


def _show_savings(runtime: Runtime, period: Period | None, job: int | None, *, as_json: bool) -> None:
    from batcher.budget.savings import read_savings
    from batcher.budget.spend import View, read_spend, total_of

    zone = runtime.settings.time_zone
    with runtime.store.read() as connection:
        savings = read_savings(connection, runtime.catalog, period, job, zone)
        spent = total_of(read_spend(connection, View.PURPOSE, period, job))
    if as_json:
        echo_json(
            {
                "since": period.since if period else None,
                "until": period.until if period else None,
                "booked_usd": usd(spent.booked_nusd),
                "savings": [_json_of_saving(saving) for saving in savings],
            }
        )
        return
    _print_savings(savings, spent, period)


def _print_savings(savings: Sequence[Saving], spent: Spend, period: Period | None) -> None:
    from batcher.money import format_usd

    rows: list[tuple[str, ...]] = [("WHAT", "SAVED", "ON")]
    rows += [(_name(saving), format_usd(saving.saved_nusd), _count(saving)) for saving in savings]
    echo_table(rows, right=(1,))
    for saving in savings:
        say(f"  {_name(saving)}: {saving.how}")
    note(f"Booked as spent {_when(period)}: {format_usd(spent.booked_nusd)}.")


def _name(saving: Saving) -> str:
    name = saving.kind.value.replace("_", " ")
    return f"{name}, against {saving.against}" if saving.against else name


def _count(saving: Saving) -> str:
    unit = {"reuse": "items", "caching": "cached tokens", "cheap_tiers": "answers"}[saving.kind.value]
    return f"{saving.count:,} {unit}"


def _json_of_saving(saving: Saving) -> dict[str, Any]:
    return {
        "kind": saving.kind.value,
        "saved_usd": usd(saving.saved_nusd),
        "count": saving.count,
        "against": saving.against or None,
        "paid_usd": usd(saving.paid_nusd),
        "how": saving.how,
    }
