"""``batcher models``: what models there are, what they cost, and whether those prices still hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.errors import ConfigurationError, UsageError
from batcher.money import nusd_to_usd

if TYPE_CHECKING:
    from batcher.catalog.comparison import Difference, PriceReport
    from batcher.catalog.models import Catalog, Model
    from batcher.catalog.vendor_prices import PriceList
    from batcher.settings import Settings

_ONLINE_HELP = "Fetch today's prices with genai-prices' own updater, instead of the ones bundled with it."
_URL_HELP = "With --online: a mirror of its data file."


@click.group("models", help="List models, check their prices and refresh them.")
def models() -> None:
    """The ``models`` command group."""


@models.command(
    "list", help="The models, their prices in dollars per million tokens, and whether a key is set."
)
@click.option("--tier", help="Only the models of this tier, first choice first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_command(ctx: click.Context, tier: str | None, as_json: bool) -> None:
    """Prints one line per model."""
    from batcher.catalog.models import load_catalog

    settings = _settings(ctx)
    catalog = load_catalog(settings)
    if tier and tier not in catalog.tiers:
        raise UsageError(f"There is no tier {tier!r}. Tiers: {', '.join(catalog.tiers)}")
    shown = catalog.tier(tier) if tier else catalog.models.values()
    rows = [_describe(model, catalog, settings) for model in shown]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    header = ("MODEL", "TIER", "PROVIDER", "IN $/M", "OUT $/M", "CONTEXT", "ABILITIES", "KEY", "AS OF")
    _echo_table([header, *(_columns(row) for row in rows)])
    for name in () if tier else catalog.unpriced:
        click.echo(f"{name} has no price, or can cost more: see batcher models check", err=True)


@models.command("check", help="Compare the prices in force with genai-prices. Exit code 1 if any differs.")
@click.option("--online", is_flag=True, help=_ONLINE_HELP)
@click.option("--url", help=_URL_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check_command(ctx: click.Context, online: bool, url: str | None, as_json: bool) -> None:
    """Prints differences, models that the price list does not know, and prices read long ago."""
    from batcher.catalog.models import load_catalog

    catalog = load_catalog(_settings(ctx))
    report = _check(catalog, _price_list(online, url))
    if as_json:
        click.echo(json.dumps(_report_json(report, catalog), indent=2))
    else:
        _echo_report(report, catalog)
    ctx.exit(1 if report.differences else 0)


@models.command("refresh", help="Write the prices that differ from genai-prices into batcher.toml.")
@click.option("--online", is_flag=True, help=_ONLINE_HELP)
@click.option("--url", help=_URL_HELP)
@click.option("--dry-run", is_flag=True, help="Print the lines instead of writing them.")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: the batcher.toml in force.",
)
@click.pass_context
def refresh_command(
    ctx: click.Context, online: bool, url: str | None, dry_run: bool, path: Path | None
) -> None:
    """Sets the whole price of every model of which a part differs; comments in the file stay."""
    from batcher.catalog.comparison import refreshed_tables, write_prices
    from batcher.catalog.missing import table_header
    from batcher.catalog.models import load_catalog

    report = _check(load_catalog(_settings(ctx)), _price_list(online, url))
    tables = refreshed_tables(report)
    if not tables:
        click.echo(f"Nothing to refresh: all {report.compared} prices agree with {report.source}")
        return
    if dry_run:
        blocks = [
            "\n".join([table_header(name), *(f"{field} = {value}" for field, value in fields.items())])
            for name, fields in tables.items()
        ]
        click.echo("\n\n".join(blocks))
        return
    target = path or _config_path(ctx)
    write_prices(target, tables)
    for difference in report.differences:
        click.echo(_difference_line(difference))
    click.echo(f"Wrote {len(tables)} prices from {report.source} into {target}")


def _settings(ctx: click.Context) -> Settings:
    """The settings that the root command loaded, else those in force."""
    from batcher.settings import Settings, load_settings

    return ctx.find_object(Settings) or load_settings(ctx.find_root().params.get("config"))


def _config_path(ctx: click.Context) -> Path:
    from batcher.settings import find_config

    named = ctx.find_root().params.get("config")
    found = Path(named) if named else find_config()
    if found is None:
        raise ConfigurationError("There is no batcher.toml to write to. Make one with: batcher init")
    return found


def _price_list(online: bool, url: str | None) -> PriceList:
    from batcher.catalog.vendor_prices import PriceList

    if url and not online:
        raise click.UsageError("--url goes with --online")
    return PriceList.online(url) if online else PriceList.bundled()


def _check(catalog: Catalog, prices: PriceList) -> PriceReport:
    from batcher.catalog.comparison import check_prices

    return check_prices(catalog, prices, datetime.now(UTC).date())


def _describe(model: Model, catalog: Catalog, settings: Settings) -> dict[str, Any]:
    key_env = catalog.providers[model.provider].api_key_env
    prices = model.prices
    return {
        "name": model.name,
        "tiers": [tier for tier, names in catalog.tiers.items() if model.name in names],
        "provider": model.provider,
        "id": model.id,
        "input_usd": float(nusd_to_usd(prices.input_nusd)),
        "output_usd": float(nusd_to_usd(prices.output_nusd)),
        "cached_input_usd": float(nusd_to_usd(prices.cached_nusd)),
        "cache_write_usd": float(nusd_to_usd(prices.cache_write_nusd)),
        "batch_percent": prices.batch_percent,
        "long_from": prices.long_from if prices.long else None,
        "long_input_usd": float(nusd_to_usd(prices.long.input_nusd)) if prices.long else None,
        "long_output_usd": float(nusd_to_usd(prices.long.output_nusd)) if prices.long else None,
        "per_request_usd": float(nusd_to_usd(prices.request_nusd)),
        "price_percent": model.price_percent,
        "reasoning_beyond_limit": model.reasoning_beyond_limit,
        "image_tokens": model.image_tokens,
        "context": model.context,
        "practical_context": model.practical_context,
        "max_output": model.max_output,
        "abilities": sorted(model.abilities),
        "rpm": model.limits.rpm,
        "tpm": model.limits.tpm,
        "rpd": model.limits.rpd,
        "concurrency": model.limits.concurrency,
        "key_env": key_env,
        "key_present": key_env is None or settings.secret(key_env) is not None,
        "data": model.data,
        "source": model.source,
        "as_of": model.as_of,
    }


def _columns(row: dict[str, Any]) -> tuple[str, ...]:
    key = "not needed" if row["key_env"] is None else "yes" if row["key_present"] else "no"
    return (
        row["name"],
        ", ".join(row["tiers"]),
        row["provider"],
        f"{row['input_usd']:g}",
        f"{row['output_usd']:g}",
        f"{row['context']:,}",
        ", ".join(row["abilities"]),
        key,
        row["as_of"] or "no date",
    )


def _report_json(report: PriceReport, catalog: Catalog) -> dict[str, Any]:
    return {
        "source": report.source,
        "compared": report.compared,
        "differences": [
            {
                "model": found.model,
                "field": found.field,
                "ours": float(found.ours),
                "theirs": float(found.theirs),
            }
            for found in report.differences
        ],
        "unknown": list(report.unknown),
        "stale": [{"model": name, "as_of": as_of} for name, as_of in report.stale],
        "announced": [{"model": name, "on": day.isoformat()} for name, day in report.announced],
        "unpriced": list(catalog.unpriced),
    }


def _echo_report(report: PriceReport, catalog: Catalog) -> None:
    for difference in report.differences:
        click.echo(_difference_line(difference))
    for name in report.unknown:
        click.echo(f"{name}: {report.source} does not know it; compare it with the vendor's page yourself")
    for name, as_of in report.stale:
        when = f"was read on {as_of}, more than 90 days ago" if as_of else "carries no date (as_of)"
        click.echo(f"{name}: its price {when}")
    for name, day in report.announced:
        click.echo(f"{name}: the vendor has announced another price from {day.isoformat()}")
    for message in catalog.unpriced.values():
        click.echo(message)
    differing = len({difference.model for difference in report.differences})
    click.echo(f"{report.compared} prices compared with {report.source}: {differing} differ")
    if differing:
        click.echo("Take over the prices there with: batcher models refresh")


def _difference_line(difference: Difference) -> str:
    unit = "%" if difference.field == "batch_percent" else " $/M"
    ours, theirs = _plain(difference.ours), _plain(difference.theirs)
    return f"{difference.model}: {difference.field} is {ours}{unit} here, {theirs}{unit} there"


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _echo_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
