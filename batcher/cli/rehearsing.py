"""``batcher submit --rehearse``: a night in a minute, on simulated vendors, and what to expect of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.display import Display, Snapshot, make_display
from batcher.cli.output import duration, echo_json, iso_time, local_time, note, usd, usd_or_none
from batcher.cli.reading import ReadingNote
from batcher.cli.routing_options import note_dropped
from batcher.cli.running import EXIT_BUDGET, EXIT_DEPENDENCY, EXIT_DONE, EXIT_INCOMPLETE, EXIT_INTERRUPTED
from batcher.dispatch.finish_by import FINISH_BY_REASON, FinishBy, parse_finish_by
from batcher.dispatch.rehearsal import Rehearsal
from batcher.dispatch.rehearsal_books import open_real_store, read_books
from batcher.dispatch.rehearsal_report import RehearsalReport, RehearsedDay, read_report
from batcher.domain import ItemStatus, JobState
from batcher.engine.control import Ending
from batcher.engine.submission import submit
from batcher.errors import CatalogError, ConfigurationError, UsageError
from batcher.money import format_usd
from batcher.planning.order import Order, SubmitRequest, check_request
from batcher.simulator.faults import read_faults
from batcher.store.stages import count_documents_of

if TYPE_CHECKING:
    from batcher.catalog.models import Catalog, Model
    from batcher.engine.engine import Engine
    from batcher.planning.choice import Usable
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job

_REDRAW_S: Final = 0.25
_MOST_WAITS: Final = 4


def rehearse_request(
    runtime: Runtime, request: SubmitRequest, faults: Path | None, *, finish_by: str | None, as_json: bool
) -> int:
    """Rehearse a request and print what to expect; returns the exit code.

    Args:
        runtime: the real one, of which the settings, the catalogue and the tasks are used.
        request: what the user asks for.
        faults: a fault script, or None.
        finish_by: when to stop, done or not, as the user wrote it.
        as_json: print JSON.

    Raises:
        BatcherError: for what would stop the real run too, a missing key excepted; and for a local model.
    """
    started = time.monotonic()
    script = read_faults(faults) if faults else []
    order, is_usable = _check(runtime, request)
    real = open_real_store(runtime.settings)
    try:
        time_zone = runtime.settings.time_zone
        books = read_books(real, time_zone)
        end = None if finish_by is None else parse_finish_by(finish_by, books.now, time_zone)
        rehearsal = Rehearsal(runtime.settings, runtime.catalog, books, is_usable, faults=script)
        with rehearsal:
            job = _take_in(rehearsal, order, int(runtime.settings.max_file_mb * 1_000_000))
            if real is not None:
                rehearsal.adopt_answers(real, job)
                real.close()
            ending = _run(rehearsal, job, end)
            report = read_report(rehearsal, job.id)
    finally:
        if real is not None:
            real.close()
    real_s = time.monotonic() - started
    if as_json:
        echo_json(_json(order, report, real_s))
    else:
        click.echo("\n".join(_lines(order, report, real_s)))
    return _exit_code(ending, report)


def _check(runtime: Runtime, request: SubmitRequest) -> tuple[Order, Usable]:
    """The checked request and which models take part: those with a key, or all if there is none for it."""
    usable: Usable = runtime.is_usable
    try:
        order = check_request(request, runtime.catalog, usable, runtime.settings.quality)
    except CatalogError:
        raise
    except ConfigurationError as error:
        usable = _hosted(runtime.catalog)
        order = check_request(request, runtime.catalog, usable, runtime.settings.quality)
        note(f"{error}. Rehearsing without a key, as if there were one for every model.")
    if not _hosted(runtime.catalog)(order.model):
        raise UsageError(
            f"{order.model.name} runs on this machine: it costs nothing, and how fast it is here cannot be "
            "simulated. Try it on a few documents: add --limit 20 and leave --rehearse out"
        )
    note_dropped(order)
    return order, usable


def _hosted(catalog: Catalog) -> Usable:
    def is_hosted(model: Model) -> bool:
        return catalog.providers[model.provider].kind != "local"

    return is_hosted


def _take_in(rehearsal: Rehearsal, order: Order, max_file_bytes: int) -> Job:
    with ReadingNote() as reading:
        submitted = submit(
            rehearsal.store,
            rehearsal.ledger,
            order,
            max_file_bytes=max_file_bytes,
            stdin=sys.stdin.buffer,
            on_progress=reading.show,
        )
    return submitted.job


def _run(rehearsal: Rehearsal, job: Job, finish_by: FinishBy | None) -> Ending:
    display = make_display()
    show = _Show(rehearsal, job, display)

    def on_signal(number: int) -> None:
        display.say("Stopping." if number == 1 else "Stopping at once.")

    try:
        return rehearsal.run(job.id, finish_by=finish_by, on_sample=show, on_signal=on_signal)
    finally:
        display.close()


class _Show:
    """Shows a rehearsal as it goes, a few times per real second however fast its own time flies."""

    def __init__(self, rehearsal: Rehearsal, job: Job, display: Display) -> None:
        self._rehearsal = rehearsal
        self._display = display
        self._next_at = 0.0
        with rehearsal.store.read() as connection:
            counts = count_documents_of(connection, [job.id])[job.id]
        self._total = sum(counts.values()) - counts[ItemStatus.REJECTED]
        self._known = counts[ItemStatus.DONE]

    def __call__(self, engine: Engine) -> None:
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + _REDRAW_S
        self._display.show(self._snapshot(engine))

    def _snapshot(self, engine: Engine) -> Snapshot:
        rehearsal, progress = self._rehearsal, engine.progress
        done = rehearsal.past[ItemStatus.DONE] + progress.done
        failed = rehearsal.past[ItemStatus.FAILED] + progress.failed
        elapsed = max(0.001, rehearsal.seconds - progress.started)
        return Snapshot(
            title=f"rehearsal, {local_time(rehearsal.now())}",
            done=self._known + done,
            failed=failed,
            ended=self._known + done + failed,
            total=self._total,
            in_flight=progress.in_flight,
            waiting=engine.waiting_reason(),
            documents_per_s=progress.done / elapsed,
            tokens_per_s=(progress.input_tokens + progress.output_tokens) / elapsed,
            spent_nusd=progress.cost_nusd,
            cap_nusd=rehearsal.books.cap_nusd,
            left_s=None,
        )


def _exit_code(ending: Ending, report: RehearsalReport) -> int:
    if (report.reason or "").startswith(FINISH_BY_REASON):
        return EXIT_INCOMPLETE
    if ending is Ending.STOPPED:
        return EXIT_INTERRUPTED
    if ending is Ending.BUDGET:
        return EXIT_BUDGET
    if report.state is not JobState.DONE:
        return EXIT_DEPENDENCY
    faulty = report.items[ItemStatus.FAILED] or report.items[ItemStatus.REJECTED]
    return EXIT_INCOMPLETE if faulty else EXIT_DONE


def _lines(order: Order, report: RehearsalReport, real_s: float) -> list[str]:
    total = sum(report.items.values())
    lines = [
        f"Rehearsal of {order.spec.name} on tier {order.tier}, {order.model.name}: {total:,} "
        f"document{'' if total == 1 else 's'}. Nothing was sent, spent or kept.",
    ]
    facts = [*_facts(report), ("took", f"{duration(real_s)} of real time")]
    return lines + [f"  {name:<9} {text}" for name, text in facts if text]


def _facts(report: RehearsalReport) -> list[tuple[str, str]]:
    items, spend = report.items, report.spend
    is_done = report.state is JobState.DONE
    end = f"it would end at {local_time(report.ends_at)}" if is_done else f"stopped: {report.reason or ''}"
    cost = format_usd(report.cost_nusd)
    if spend.unknown_nusd:
        cost += f" ({format_usd(spend.unknown_nusd)} of it for calls whose outcome is not known)"
    left = items[ItemStatus.PENDING] + items[ItemStatus.LEASED]
    calls = sum(report.calls.values())
    return [
        ("time", f"{duration(report.seconds)}; {end}"),
        ("done", f"{items[ItemStatus.DONE]:,}" + (f" ({report.reused:,} reused)" if report.reused else "")),
        ("open", f"{left:,}" if left else ""),
        ("failed", _with_causes(items[ItemStatus.FAILED], report.failed)),
        ("rejected", _with_causes(items[ItemStatus.REJECTED], report.rejected)),
        ("calls", _with_causes(calls, report.calls) if calls else "0"),
        ("429s", f"{report.statuses.get(429, 0):,}"),
        ("errors", _errors(report)),
        ("tokens", f"{spend.input_tokens:,} in, {spend.output_tokens:,} out"),
        ("cost", cost),
        *(("day", _day(day)) for day in report.days),
        ("speed", f"{report.documents_per_min:,.1f} documents/min" if calls else ""),
        ("waits", _waits(report)),
    ]


def _with_causes(count: int, causes: Mapping[str, int]) -> str:
    named = ", ".join(f"{name} {number:,}" for name, number in causes.items())
    return f"{count:,}: {named}" if count else ""


def _errors(report: RehearsalReport) -> str:
    parts = [f"{count:,} x HTTP {status}" for status, count in report.statuses.items() if status != 429]
    if report.without_answer:
        parts.append(f"{report.without_answer:,} without an answer")
    return ", ".join(parts)


def _day(day: RehearsedDay) -> str:
    text = f"{day.day}: {format_usd(day.spent_nusd)} in {day.calls:,} calls"
    if day.cap_nusd is not None:
        text += f", of {format_usd(day.cap_nusd)}"
    return text + (f", of which {format_usd(day.taken_nusd)} was taken before" if day.taken_nusd else "")


def _waits(report: RehearsalReport) -> str:
    """What was waited for, most first: the first is what limits the run."""
    waits = list(report.waits.items())[:_MOST_WAITS]
    return ", ".join(f"{what} ({duration(seconds)})" for what, seconds in waits)


def _json(order: Order, report: RehearsalReport, real_s: float) -> dict[str, Any]:
    items = report.items
    return {
        "rehearsal": True,
        "task": order.spec.name,
        "tier": order.tier,
        "model": order.model.name,
        "state": report.state.value,
        "reason": report.reason,
        "starts_at": iso_time(report.started_at),
        "ends_at": iso_time(report.ends_at),
        "seconds": report.seconds,
        "working_seconds": report.working_s,
        "real_seconds": real_s,
        "items": sum(items.values()),
        "reused": report.reused,
        "done": items[ItemStatus.DONE],
        "failed": items[ItemStatus.FAILED],
        "rejected": items[ItemStatus.REJECTED],
        "open": items[ItemStatus.PENDING] + items[ItemStatus.LEASED],
        "failed_by_class": report.failed,
        "rejected_by_reason": report.rejected,
        "calls": sum(report.calls.values()),
        "calls_by_outcome": report.calls,
        "calls_by_model": report.models,
        "rate_limited": report.statuses.get(429, 0),
        "errors_by_status": {str(status): count for status, count in report.statuses.items()},
        "without_answer": report.without_answer,
        "input_tokens": report.spend.input_tokens,
        "output_tokens": report.spend.output_tokens,
        "cost_usd": usd(report.cost_nusd),
        "unknown_usd": usd(report.spend.unknown_nusd),
        "days": [
            {
                "day": day.day,
                "calls": day.calls,
                "cost_usd": usd(day.spent_nusd),
                "taken_before_usd": usd(day.taken_nusd),
                "cap_usd": usd_or_none(day.cap_nusd),
            }
            for day in report.days
        ],
        "documents_per_min": report.documents_per_min,
        "waits_s": report.waits,
        "binding_limit": report.binding_limit,
    }
