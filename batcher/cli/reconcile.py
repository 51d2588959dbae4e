"""``batcher spend reconcile``: what is proven unbilled is returned, a vendor's export compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.output import echo_json, echo_table, note, say, usd, usd_or_none, visible_line
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.reconcile import Finding, Reconciliation, Row, UnknownCalls
    from batcher.budget.vendor_export import Export
    from batcher.runtime import Runtime


@click.command("reconcile")
@click.option(
    "--csv", "file", type=click.Path(path_type=Path), metavar="FILE", help="A vendor's usage or cost export."
)
@click.option(
    "--provider",
    metavar="NAME",
    help="Whose export it is, where its columns and models do not tell, or tell of several.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=HEADER",
    help="Which column holds what: day, model, requests, input_tokens, uncached_tokens, cached_tokens,"
    " cache_write_tokens, output_tokens, cost_usd or request_id. Repeatable.",
)
@click.option(
    "--final",
    is_flag=True,
    help="The export is complete for the days that it spans: what it does not list was not billed.",
)
@click.option("--apply", "applies", is_flag=True, help="Settle the calls whose fate the export proves.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def reconcile(
    ctx: click.Context,
    file: Path | None,
    provider: str | None,
    columns: tuple[str, ...],
    final: bool,
    applies: bool,
    as_json: bool,
) -> None:
    """Return what is proven unbilled, and compare with a vendor's bill.

    Takes back what lost workers had reserved and never sent. Without --csv: lists the calls whose outcome
    nobody knows. With it: names what differs, for every model and UTC day of one provider; exits with 1 where
    the vendor charges more than the ledger holds. Running it twice changes nothing more.
    """
    from batcher.runtime import Runtime

    if file is None and (provider or columns or final or applies):
        raise UsageError("--provider, --column, --final and --apply are about an export. Add --csv FILE")
    settings: Settings = ctx.obj
    runtime = Runtime(settings)
    if file is None:
        _take_back(runtime, as_json=as_json)
        return
    found = _compare(runtime, file, provider, columns, final=final, applies=applies, as_json=as_json)
    ctx.exit(1 if found.higher else 0)


def _take_back(runtime: Runtime, *, as_json: bool) -> None:
    from batcher.budget.reconcile import list_unknown

    chunks = _reclaim(runtime)
    with runtime.store.read() as connection:
        unknown = list_unknown(connection)
    if as_json:
        echo_json({"lost_chunks": chunks, "unknown": [_json_of_unknown(row) for row in unknown]})
        return
    if not unknown:
        note("Nothing is unknown: every call that left is settled, or on its way.")
        return
    from batcher.money import format_usd

    rows: list[tuple[str, ...]] = [("DAY", "PROVIDER", "MODEL", "CALLS", "WORST CASE")]
    rows += [
        (row.day, row.provider, row.model, f"{row.calls:,}", format_usd(row.worst_nusd)) for row in unknown
    ]
    echo_table(rows, right=(3, 4))
    total, calls = sum(row.worst_nusd for row in unknown), sum(row.calls for row in unknown)
    note(
        f"Nobody knows whether these {calls:,} calls were billed; {format_usd(total)} stays booked until a"
        " vendor's export proves it: batcher spend reconcile --csv FILE"
    )


def _reclaim(runtime: Runtime) -> int:
    """Take back the chunks of lost workers, so that what they sent counts as spent; returns how many."""
    from batcher.engine.reclaiming import reclaim_lost

    chunks = reclaim_lost(runtime.store, runtime.ledger)
    if chunks:
        note(
            f"Took back {chunks} chunks of lost workers: what they had reserved and never sent is free again."
        )
    return chunks


def _compare(
    runtime: Runtime,
    file: Path,
    given: str | None,
    columns: Sequence[str],
    *,
    final: bool,
    applies: bool,
    as_json: bool,
) -> Reconciliation:
    from batcher.budget.export_owner import choose_provider
    from batcher.budget.reconcile import compare, settle
    from batcher.budget.vendor_export import read_export

    export = read_export(file, _named(columns))
    if export.ends_open:
        note(f"The last line of {file} has no line end. If it is cut off, download the export again.")
    _reclaim(runtime)
    store, ledger, catalog = runtime.store, runtime.ledger, runtime.catalog
    returned_nusd = 0
    with store.write() if applies else store.read() as connection:
        if applies:
            ledger.lock(connection)
        provider = choose_provider(connection, catalog, export, given)
        now = store.now(connection)
        found = compare(connection, catalog, export, provider, final=final, now=now)
        if applies:
            returned_nusd = settle(connection, ledger, found.proofs)
    _tell_of_higher_bills(runtime, found)
    if as_json:
        echo_json(_json(found, export, returned_nusd, applied=applies))
    else:
        _print(found, export, returned_nusd, applied=applies)
    return found


def _named(columns: Sequence[str]) -> dict[str, str]:
    from batcher.budget.vendor_export import COLUMNS

    named = {}
    for column in columns:
        name, equals, header = (part.strip() for part in column.partition("="))
        if not equals or not header or name not in COLUMNS:
            raise UsageError(
                f"--column {column!r}: write NAME=HEADER, where NAME is one of {', '.join(COLUMNS)}"
            )
        named[name] = header
    return named


def _tell_of_higher_bills(runtime: Runtime, found: Reconciliation) -> None:
    """One alert for each day on which the vendor charges more than the ledger holds."""
    from batcher.alerts.book import Alert, Rule, raise_alert

    by_day: dict[str, list[Row]] = defaultdict(list)
    for row in found.higher:
        by_day[row.day].append(row)
    if not by_day:
        return
    with runtime.store.write() as connection:
        now = runtime.store.now(connection)
        for day, rows in by_day.items():
            alert = Alert(
                Rule.VENDOR_HIGHER,
                f"provider:{found.provider}",
                f"{found.provider} bills more than the ledger holds for {day}",
                "\n".join(f"{row.model or 'all models'}: {_words(row)}" for row in rows)
                + "\nLook at the prices in the catalogue, and for others who use the same key.",
            )
            raise_alert(connection, alert, day, now)
    runtime.alerts.deliver()


def _words(row: Row) -> str:
    from batcher.money import format_usd

    theirs = row.billed.cost_nusd if row.billed else 0
    calls = row.billed.requests if row.billed else 0
    told = format_usd(theirs) if theirs else f"{calls:,} calls"
    return f"the export has {told}, the ledger {format_usd(row.calls.booked_nusd)} for {_made(row):,} calls"


def _made(row: Row) -> int:
    return row.calls.answered + row.calls.unknown


def _print(found: Reconciliation, export: Export, returned_nusd: int, *, applied: bool) -> None:
    from batcher.money import format_usd

    header = (
        "UTC DAY",
        "MODEL",
        "CALLS",
        "VENDOR",
        "TOKENS",
        "VENDOR",
        "SETTLED",
        "UNKNOWN",
        "VENDOR",
        "VERDICT",
    )
    echo_table([header, *(_cells(row, export) for row in found.rows)], right=range(2, 9))
    note(f"Held against the calls at {found.provider}.")
    _tell_of_calls_elsewhere(found)
    for number in export.left_out:
        note(f"Line {number} of the export holds a total and was left out.")
    for finding in found.findings:
        say(_sentence(finding, applied=applied))
    if in_flight := sum(row.calls.open for row in found.rows):
        worst = format_usd(sum(row.calls.open_nusd for row in found.rows))
        note(
            f"{in_flight:,} calls are on their way, up to {worst} in all: the export may hold them already."
            " Compare again when they have ended."
        )
    if applied:
        note(f"Gave back {format_usd(returned_nusd)}; {len(found.proofs)} calls were settled.")
    elif found.proofs:
        note(
            f"To settle {len(found.proofs)} calls and get {format_usd(found.returned_nusd)} back: add --apply"
        )
    if found.higher:
        note(
            f"{found.provider} charges more than the ledger holds: look at the prices (batcher models check),"
            " and for others who use the same key."
        )


def _tell_of_calls_elsewhere(found: Reconciliation) -> None:
    from batcher.budget.export_owner import models_at

    if not found.elsewhere:
        return
    providers = sorted({provider for providers in found.elsewhere.values() for provider in providers})
    ways = ", ".join(f"--provider {provider}" for provider in providers)
    note(
        f"Not compared: lines of models that batcher called at {models_at(found.elsewhere)},"
        f" and not at {found.provider}. To compare them: {ways}"
    )


def _cells(row: Row, export: Export) -> tuple[str, ...]:
    from batcher.money import format_usd

    calls, billed = row.calls, row.billed

    def told(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    tokens = billed.input_tokens + billed.output_tokens if billed and export.has_tokens else None
    cost = billed.cost_nusd if billed and export.has("cost_usd") else None
    return (
        row.day,
        visible_line(row.model) or "(all)",
        f"{calls.answered:,}" + (f" + {calls.unknown:,}" if calls.unknown else ""),
        told(billed.requests if billed and export.has_requests else None),
        f"{calls.input_tokens + calls.output_tokens:,}",
        told(tokens),
        format_usd(calls.settled_nusd),
        format_usd(calls.unknown_nusd),
        "-" if cost is None else format_usd(cost),
        row.verdict.value,
    )


def _sentence(finding: Finding, *, applied: bool) -> str:
    from batcher.money import format_usd

    days = finding.days[0] if len(finding.days) == 1 else f"{finding.days[0]} to {finding.days[-1]}"
    text = f"{days} {visible_line(finding.model) or 'all models'}: {finding.unknown:,} unknown calls"
    text += f", booked at {format_usd(finding.unknown_nusd)}"
    if finding.proofs:
        free = sum(proof.cost_nusd == 0 for proof in finding.proofs)
        charged = len(finding.proofs) - free
        parts = [f"{free:,} never billed" if free else "", f"{charged:,} billed" if charged else ""]
        text += f"; {'settled' if applied else 'proven'}: {', '.join(filter(None, parts))}"
    return text + (f"; kept: {finding.reason}" if finding.reason else "")


def _json_of_unknown(row: UnknownCalls) -> dict[str, object]:
    return {
        "day": row.day,
        "provider": row.provider,
        "model": row.model,
        "calls": row.calls,
        "worst_case_usd": usd(row.worst_nusd),
    }


def _json(found: Reconciliation, export: Export, returned_nusd: int, *, applied: bool) -> dict[str, object]:
    return {
        "provider": found.provider,
        "days": sorted(export.days),
        "left_out_lines": list(export.left_out),
        "called_elsewhere": {model: sorted(found.elsewhere[model]) for model in sorted(found.elsewhere)},
        "rows": [_json_of_row(row, export) for row in found.rows],
        "unknown": [_json_of_finding(finding) for finding in found.findings],
        "proven_calls": len(found.proofs),
        "returnable_usd": usd(found.returned_nusd),
        "applied": applied,
        "returned_usd": usd(returned_nusd),
    }


def _json_of_row(row: Row, export: Export) -> dict[str, object]:
    calls, billed = row.calls, row.billed
    counts, tokens = export.has_requests and billed is not None, export.has_tokens and billed is not None
    cost_nusd = billed.cost_nusd if billed and export.has("cost_usd") else None
    return {
        "day": row.day,
        "model": row.model or None,
        "verdict": row.verdict.value,
        "ledger": {
            "answered_calls": calls.answered,
            "unknown_calls": calls.unknown,
            "in_flight_calls": calls.open,
            "input_tokens": calls.input_tokens,
            "cached_tokens": calls.cached_tokens,
            "output_tokens": calls.output_tokens,
            "settled_usd": usd(calls.settled_nusd),
            "unknown_usd": usd(calls.unknown_nusd),
            "in_flight_usd": usd(calls.open_nusd),
        },
        "vendor": {
            "calls": billed.requests if billed and counts else None,
            "input_tokens": billed.input_tokens if billed and tokens else None,
            "cached_tokens": billed.cached_tokens if billed and export.has("cached_tokens") else None,
            "output_tokens": billed.output_tokens if billed and tokens else None,
            "cost_usd": usd_or_none(cost_nusd),
        },
        "difference_usd": usd_or_none(None if cost_nusd is None else cost_nusd - calls.booked_nusd),
    }


def _json_of_finding(finding: Finding) -> dict[str, object]:
    return {
        "days": list(finding.days),
        "model": finding.model or None,
        "calls": finding.unknown,
        "booked_usd": usd(finding.unknown_nusd),
        "proven_calls": len(finding.proofs),
        "returnable_usd": usd(sum(proof.returned_nusd for proof in finding.proofs)),
        "kept_because": finding.reason or None,
    }
