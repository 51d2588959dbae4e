"""``batcher budget``: the caps in force, and changing them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import echo_json, echo_table, note, usd, usd_or_none
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.budget.ledger import Balance
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_NO_CAP = "none"
_NAMED = "NAME=USD"


@click.group("budget")
def budget() -> None:
    """Show or set the caps on spending."""


@budget.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(settings: Settings, as_json: bool) -> None:
    """All caps in force: what is spent, reserved and left today, and which jobs each holds back."""
    from batcher.runtime import Runtime

    caps = _read(Runtime(settings))
    if as_json:
        echo_json(_to_json(caps, settings.time_zone))
        return
    rows: list[tuple[str, ...]] = [("WHAT", "CAP", "SPENT", "RESERVED", "LEFT", "HOLDS BACK")]
    rows += [_row(cap, settings.time_zone) for cap in caps]
    echo_table(rows, right=(1, 2, 3, 4))


@budget.command("set")
@click.option("--daily", metavar="USD", help="The daily cap, from today on.")
@click.option("--tier", "tiers", multiple=True, metavar=_NAMED, help="A cap per day for a tier; repeatable.")
@click.option(
    "--provider", "providers", multiple=True, metavar=_NAMED, help="A cap per day for a provider; repeatable."
)
@click.option("--task", "tasks", multiple=True, metavar=_NAMED, help="A cap per day for a task; repeatable.")
@click.option("--job", type=JOB_ID, metavar="JOB", help="The job whose own cap --max-cost sets.")
@click.option("--max-cost", metavar="USD", help="A job's own cap, for its whole life.")
@click.pass_obj
def set_command(
    settings: Settings,
    daily: str | None,
    tiers: tuple[str, ...],
    providers: tuple[str, ...],
    tasks: tuple[str, ...],
    job: int | None,
    max_cost: str | None,
) -> None:
    """Set caps; none in place of USD lifts one.

    A call must fit under every cap that covers it. What was spent today before a cap was set counts.
    """
    from batcher.runtime import Runtime

    if daily is None and job is None and not (tiers or providers or tasks):
        raise UsageError("Say what to set: --daily 5.00, --tier premium=1.00, or --job JOB --max-cost 2.00")
    if (job is None) != (max_cost is None):
        raise UsageError("--job and --max-cost go together: --job JOB --max-cost 2.00")
    runtime = Runtime(settings)
    caps = [_daily(daily)] if daily is not None else []
    caps += [_of_tier(runtime, text) for text in tiers]
    caps += [_of_provider(runtime, text) for text in providers]
    caps += [_of_task(runtime, text) for text in tasks]
    _set(runtime, caps, None if job is None or max_cost is None else (job, _amount(max_cost)))


def _daily(amount: str) -> tuple[str, int | None]:
    from batcher.budget.ledger import DAY_SCOPE

    return DAY_SCOPE, _amount(amount)


def _of_tier(runtime: Runtime, text: str) -> tuple[str, int | None]:
    from batcher.planning.naming import CUSTOM_TIER

    name, amount = _split("--tier", text)
    _check("tier", name, [*runtime.catalog.tiers, CUSTOM_TIER])
    return f"tier:{name}", _amount(amount)


def _of_provider(runtime: Runtime, text: str) -> tuple[str, int | None]:
    name, amount = _split("--provider", text)
    _check("provider", name, runtime.catalog.providers)
    return f"provider:{name}", _amount(amount)


def _of_task(runtime: Runtime, text: str) -> tuple[str, int | None]:
    from batcher.store.jobs import has_task
    from batcher.tasks.registry import load_task

    name, amount = _split("--task", text)
    with runtime.store.read() as connection:
        known = has_task(connection, name)
    return f"task:{name if known else load_task(name).name}", _amount(amount)


def _split(option: str, text: str) -> tuple[str, str]:
    name, equals, amount = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"{option} {text!r} is no {_NAMED}. Write it like {option} name=1.00")
    return name, amount


def _check(kind: str, name: str, known: Collection[str]) -> None:
    import difflib

    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(known)}"
    raise UsageError(f"There is no {kind} {name!r}. {hint}")


def _amount(text: str) -> int | None:
    from batcher.money import usd_to_nusd

    return None if text == _NO_CAP else usd_to_nusd(text)


def _set(
    runtime: Runtime, caps: Sequence[tuple[str, int | None]], of_job: tuple[int, int | None] | None
) -> None:
    """Set all or, if one of them cannot be, none."""
    from batcher.budget.ledger import Account, job_account
    from batcher.store.jobs import get_job

    told = []
    with runtime.store.write() as connection:
        runtime.ledger.lock(connection)
        for scope, cap_nusd in caps:
            runtime.ledger.set_cap(connection, scope, cap_nusd)
            told.append(_sentence(Account(scope, "").name, cap_nusd, ", from today on"))
        if of_job is not None:
            job_id, cap_nusd = of_job
            _check_that_it_pays(get_job(connection, job_id))
            runtime.ledger.set_job_cap(connection, job_id, cap_nusd)
            told.append(_sentence(job_account(job_id).name, cap_nusd, ""))
    for sentence in told:
        note(sentence)
    note("What a cap paused goes on with: batcher resume")


def _check_that_it_pays(job: Job) -> None:
    if job.parent_id is not None:
        what = f"is a stage of job {job.parent_id}" if job.is_stage else f"judges for job {job.parent_id}"
        raise UsageError(
            f"Job {job.id} {what}, which pays for it: a cap of its own would hold nothing. Set that of the "
            f"other: batcher budget set --job {job.parent_id} --max-cost AMOUNT"
        )


def _sentence(name: str, cap_nusd: int | None, since: str) -> str:
    from batcher.money import format_usd

    return f"The {name} is {'lifted' if cap_nusd is None else format_usd(cap_nusd)}{since}."


def raising_commands(reason: str) -> list[str]:
    """The commands that raise the caps which the reason of a pause names."""
    commands = ["batcher budget set --daily AMOUNT"] if "daily cap" in reason else []
    for kind, name in re.findall(r"cap of (job|tier|provider|task) (\S+)", reason):
        what = f"--job {name} --max-cost AMOUNT" if kind == "job" else f"--{kind} {name}=AMOUNT"
        commands.append(f"batcher budget set {what}")
    return commands


@dataclass(frozen=True, slots=True)
class _Cap:
    """A cap in force, and the unfinished jobs that it holds back now."""

    balance: Balance
    holds_back: tuple[int, ...]

    @property
    def job_id(self) -> int | None:
        kind, _, name = self.balance.account.scope.partition(":")
        return int(name) if kind == "job" else None


def _read(runtime: Runtime) -> list[_Cap]:
    """The day first, whether or not it has a cap."""
    from batcher.budget.ledger import DAY_SCOPE, Account, Balance
    from batcher.store.jobs import UNFINISHED, list_jobs

    ledger = runtime.ledger
    with runtime.store.read() as connection:
        today = Account(DAY_SCOPE, ledger.current_day(connection))
        known = ledger.balances(connection, [today])
        day = known[0] if known else Balance(today, ledger.daily_cap_nusd(connection), 0, 0)
        others = [found for found in ledger.capped(connection, today.period) if found.account != today]
        unfinished = list_jobs(connection, UNFINISHED)
    return [_Cap(found, _held_back(found, unfinished)) for found in (day, *others)]


def _held_back(balance: Balance, jobs: Iterable[Job]) -> tuple[int, ...]:
    """The jobs whose reason for a pause, or for waiting, names the cap."""
    named = re.compile(rf"(?<!\S){re.escape(balance.account.name)}(?!\S)")
    return tuple(
        sorted(
            job.id for job in jobs if named.search(job.reason or "") or named.search(job.waiting_reason or "")
        )
    )


def _to_json(caps: Sequence[_Cap], time_zone: str) -> dict[str, Any]:
    day, *others = caps
    named = [cap for cap in others if cap.job_id is None]
    own = [cap for cap in others if cap.job_id is not None]
    return {
        "day": day.balance.account.period,
        "time_zone": time_zone,
        **_amounts(day),
        "caps": [{"scope": cap.balance.account.scope} | _amounts(cap) for cap in named],
        "jobs": [{"job_id": cap.job_id} | _amounts(cap) for cap in own],
    }


def _amounts(cap: _Cap) -> dict[str, Any]:
    balance = cap.balance
    return {
        "cap_usd": usd_or_none(balance.cap_nusd),
        "spent_usd": usd(balance.spent_nusd),
        "reserved_usd": usd(balance.reserved_nusd),
        "left_usd": usd_or_none(balance.room_nusd),
        "holds_back": list(cap.holds_back),
    }


def _row(cap: _Cap, time_zone: str) -> tuple[str, ...]:
    from batcher.budget.ledger import DAY_SCOPE
    from batcher.money import format_usd

    balance = cap.balance
    scope, period = balance.account
    name = f"{period} ({time_zone})" if scope == DAY_SCOPE else scope.replace(":", " ", 1)
    amounts = (balance.cap_nusd, balance.spent_nusd, balance.reserved_nusd, balance.room_nusd)
    shown = [_NO_CAP if amount is None else format_usd(amount) for amount in amounts]
    jobs = ", ".join(f"job {job_id}" for job_id in cap.holds_back)
    return (name, *shown, jobs)
