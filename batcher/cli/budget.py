"""``batcher budget``: the caps in force, and changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import echo_json, echo_table, note, usd, usd_or_none
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.runtime import Runtime

_NO_CAP = "none"


@click.group("budget")
def budget() -> None:
    """Show or set the caps on spending."""


@budget.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(settings: Settings, as_json: bool) -> None:
    """Today's cap, what is spent, reserved and left; and the jobs' own caps."""
    from batcher.runtime import Runtime

    today, jobs = _read(Runtime(settings))
    if as_json:
        echo_json(
            {"day": today.account.period, "time_zone": settings.time_zone}
            | _json(today)
            | {"jobs": [{"job_id": job_id} | _json(balance) for job_id, balance in jobs.items()]}
        )
        return
    rows: list[tuple[str, ...]] = [("WHAT", "CAP", "SPENT", "RESERVED", "LEFT")]
    rows.append(_row(f"{today.account.period} ({settings.time_zone})", today))
    rows += [_row(f"job {job_id}", balance) for job_id, balance in jobs.items()]
    echo_table(rows, right=(1, 2, 3, 4))


@budget.command("set")
@click.option("--daily", metavar="USD", help="The daily cap, from today on.")
@click.option("--job", type=JOB_ID, metavar="JOB", help="The job whose own cap --max-cost sets.")
@click.option("--max-cost", metavar="USD", help="A job's own cap, or none to lift it.")
@click.pass_obj
def set_command(settings: Settings, daily: str | None, job: int | None, max_cost: str | None) -> None:
    """Set the daily cap, or a job's own."""
    from batcher.runtime import Runtime

    if daily is None and job is None:
        raise UsageError("Say what to set: --daily 5.00, or --job JOB --max-cost 2.00")
    if (job is None) != (max_cost is None):
        raise UsageError("--job and --max-cost go together: --job JOB --max-cost 2.00")
    runtime = Runtime(settings)
    if daily is not None:
        _set_daily(runtime, daily)
    if job is not None and max_cost is not None:
        _set_job(runtime, job, max_cost)


def _set_daily(runtime: Runtime, amount: str) -> None:
    from batcher.money import format_usd, usd_to_nusd

    cap_nusd = usd_to_nusd(amount)
    with runtime.store.write() as connection:
        runtime.ledger.set_daily_cap(connection, cap_nusd)
    note(f"The daily cap is {format_usd(cap_nusd)}, from today on. Paused jobs go on with: batcher resume")


def _set_job(runtime: Runtime, job_id: int, amount: str) -> None:
    from batcher.money import format_usd, usd_to_nusd
    from batcher.store.jobs import get_job

    cap_nusd = None if amount == _NO_CAP else usd_to_nusd(amount)
    with runtime.store.write() as connection:
        get_job(connection, job_id)
        runtime.ledger.set_job_cap(connection, job_id, cap_nusd)
    what = "has no cap of its own now" if cap_nusd is None else f"may cost {format_usd(cap_nusd)}"
    note(f"Job {job_id} {what}. If it is paused: batcher resume {job_id}")


def _read(runtime: Runtime) -> tuple[Balance, dict[int, Balance]]:
    from batcher.budget.ledger import DAY_SCOPE, Account
    from batcher.budget.spend import job_balances

    with runtime.store.write() as connection:
        day = runtime.ledger.today(connection)
        [today] = runtime.ledger.balances(connection, [Account(DAY_SCOPE, day)])
        return today, job_balances(connection, capped_only=True)


def _json(balance: Balance) -> dict[str, Any]:
    return {
        "cap_usd": usd_or_none(balance.cap_nusd),
        "spent_usd": usd(balance.spent_nusd),
        "reserved_usd": usd(balance.reserved_nusd),
        "left_usd": usd_or_none(balance.room_nusd),
    }


def _row(name: str, balance: Balance) -> tuple[str, ...]:
    from batcher.money import format_usd

    amounts = (balance.cap_nusd, balance.spent_nusd, balance.reserved_nusd, balance.room_nusd)
    return (name, *(_NO_CAP if amount is None else format_usd(amount) for amount in amounts))
