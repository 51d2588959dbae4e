"""What a run came to, in plain words, and which command comes next."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from batcher.cli.accuracy_view import sampled_lines
from batcher.cli.budget import raising_commands
from batcher.cli.job_view import JobView
from batcher.cli.judging_view import judging_commands, judging_words
from batcher.cli.output import duration, local_time, say, visible_line
from batcher.cli.routing_view import is_judge, routing_lines, where_words
from batcher.cli.stage_view import stage_lines
from batcher.domain import ItemStatus, JobState
from batcher.export.lines import open_results
from batcher.money import format_usd
from batcher.quality.golden import Accuracy
from batcher.quality.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batcher.cli.attendance import Missing
    from batcher.cli.running import Run
    from batcher.store.database import Store
    from batcher.store.jobs import Job

SAMPLE_DOCUMENTS: Final = 3
_SAMPLE_WIDTH: Final = 100
_REASON_WIDTH: Final = 240
_MOST_FIELDS: Final = 12


def echo_report(run: Run) -> None:
    """Print the report of each job of a run."""
    for view in run.views:
        for line in report_lines(view, run):
            say(line)


def report_lines(view: JobView, run: Run | None = None) -> list[str]:
    """A job's state, counts, cost, accuracy, and the next commands.

    Args:
        view: the job.
        run: the run that just ended, for its time and speed; None for a job seen from outside.
    """
    return state_lines(view, run) + next_lines(view, run)


def state_lines(view: JobView, run: Run | None = None) -> list[str]:
    """A job's state, counts, cost and accuracy."""
    lines = [_title(view, run)]
    for name, text in _facts(view, run):
        if text:
            lines.append(f"  {name:<9} {text}")
            lines += _examples(view, name)
    return lines


def _examples(view: JobView, fact: str) -> list[str]:
    """Below the counts of what failed or was rejected, a few of each class with their reasons."""
    classes = {"failed": view.failed, "rejected": view.rejected}.get(fact, {})
    return [
        f"    {visible_line(example.source)}: {name}: {_cut(example.error, _REASON_WIDTH)}"
        for name in classes
        for example in view.examples.get(name, [])
    ]


def _is_cut_off(view: JobView, run: Run | None) -> bool:
    """Whether the run gave up its calls in flight: the job stays running until somebody takes them back."""
    interrupted = run is not None and run.interrupted and not run.by_workers
    return interrupted and view.job.state is JobState.RUNNING


def _title(view: JobView, run: Run | None) -> str:
    job = view.job
    state = "interrupted" if _is_cut_off(view, run) else job.state
    line = f"Job {job.id} {state}: {job.task} {where_words(job, view.models)}"
    return f"{line}, {view.total:,} document{'' if view.total == 1 else 's'}"


def _facts(view: JobView, run: Run | None) -> list[tuple[str, str]]:
    items, spend = view.items, view.spend
    reused = f" ({view.reused:,} reused)" if view.reused else ""
    open_items = items[ItemStatus.PENDING] + items[ItemStatus.LEASED]
    cost = format_usd(view.spent_nusd)
    if spend.unknown_nusd:
        cost += f" ({format_usd(spend.unknown_nusd)} of it for calls whose outcome is not known)"
    if is_judge(view.job):
        cost += f", paid by job {view.job.parent_id} under its caps"
    if view.balance and view.balance.cap_nusd is not None:
        cost += f", the job's own cap is {format_usd(view.balance.cap_nusd)}"
    tokens = f"{spend.input_tokens:,} in, {spend.output_tokens:,} out, {spend.calls:,} calls"
    return [
        ("waiting", _waiting(view)),
        ("reading", "its corpus is still being read" if view.job.state is JobState.INGESTING else ""),
        ("done", f"{items[ItemStatus.DONE]:,}{reused}"),
        ("open", f"{open_items:,}" if open_items else ""),
        ("failed", _with_causes(items[ItemStatus.FAILED], view.failed)),
        ("rejected", _with_causes(items[ItemStatus.REJECTED], view.rejected)),
        ("cancelled", f"{items[ItemStatus.CANCELLED]:,}" if items[ItemStatus.CANCELLED] else ""),
        ("models", view.who_answered),
        *stage_lines(view.stages),
        ("cost", cost),
        *routing_lines(view.job, view.saving),
        ("estimate", _estimate(view)),
        ("tokens", tokens if spend.calls else ""),
        ("time", _speed(run)),
        ("today", _today(view)),
        ("accuracy", _accuracy(view.accuracy)),
        ("fields", _fields(view.accuracy)),
        *sampled_lines(view.sampled, Sampling.of(view.job), view.job.id),
        ("judging", judging_words(view.judging)),
        ("ladder", "" if view.ladder is None else view.ladder.words),
    ]


def _waiting(view: JobView) -> str:
    if view.waiting_reason is None:
        return ""
    until = f", until {local_time(view.job.resume_at)}" if view.job.resume_at else ""
    return view.waiting_reason + until


def _estimate(view: JobView) -> str:
    """What it was estimated to cost against what it did, or against what it has so far."""
    found = view.estimate
    if found is None or not (found.likely_nusd or view.spent_nusd):
        return ""
    told, actual = format_usd(found.likely_nusd), format_usd(view.spent_nusd)
    if found.judging_nusd:
        told += f" ({format_usd(found.judging_nusd)} of it for judging)"
    if not view.is_complete:
        return f"{told} for all of it, {actual} so far"
    difference = found.error(view.spent_nusd)
    return f"{told}, actual {actual}" + (
        "" if difference is None else f" ({difference:+.0%})".replace("%", " %")
    )


def _with_causes(count: int, causes: Mapping[str, int]) -> str:
    return (
        f"{count:,}: " + ", ".join(f"{name} {number:,}" for name, number in causes.items()) if count else ""
    )


def _speed(run: Run | None) -> str:
    if run is None:
        return ""
    return duration(run.seconds) + (f", {run.done / run.seconds:.1f} documents/s" if run.done else "")


def _today(view: JobView) -> str:
    if view.today is None or view.today.cap_nusd is None:
        return ""
    return f"{format_usd(view.today.spent_nusd)} of {format_usd(view.today.cap_nusd)} spent"


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return ""
    interval = found.interval
    return (
        f"{interval.share:.1%} ({found.correct:,} of {found.scored:,} correct; "
        f"95 % interval {interval.low:.1%} to {interval.high:.1%}); mean score {found.mean_score:.2f}"
    )


def _fields(found: Accuracy | None) -> str:
    if found is None or not found.fields:
        return ""
    worst_first = sorted(found.fields.items(), key=lambda field: field[1])
    shown = ", ".join(f"{name} {score:.2f}" for name, score in worst_first[:_MOST_FIELDS])
    more = len(worst_first) - _MOST_FIELDS
    return shown + (f", and {more} better ones" if more > 0 else "")


def next_lines(view: JobView, run: Run | None = None, missing: Sequence[Missing] | None = None) -> list[str]:
    """The commands that come next; ``missing``: the workers that are missing, if workers were asked."""
    job = view.job
    commands = []
    faulty = view.items[ItemStatus.FAILED] or view.items[ItemStatus.REJECTED]
    if view.items[ItemStatus.DONE] or faulty:
        why = "   (with the reason of everything that failed or was rejected)" if faulty else ""
        commands.append(f"batcher results {job.id} -o results.jsonl{why}")
    if job.state is not JobState.CANCELLED:
        commands += [f"batcher retry {job.id} --class {name}" for name in islice(view.failed, 3)]
    commands += judging_commands(view.judging, job)
    if job.state is JobState.PAUSED:
        commands += raising_commands(job.reason or "")
        commands.append(f"batcher resume {job.id}")
    if _is_cut_off(view, run):
        commands.append(f"batcher resume {job.id}")
    elif run is not None and run.by_workers and job.state in {JobState.INGESTING, JobState.RUNNING}:
        commands.append(f"batcher status {job.id} --watch   (workers go on with it)")
    elif job.state is JobState.INGESTING:
        commands.append(f"batcher status {job.id} --watch")
    elif job.state is JobState.RUNNING and not view.has_worker:
        commands += _who_is_to_run_it(view, missing)
    return [f"{'Next:' if number == 0 else '':<6}{command}" for number, command in enumerate(commands)]


def _who_is_to_run_it(view: JobView, missing: Sequence[Missing] | None) -> list[str]:
    """What is next for a job of which no process holds anything just now."""
    if not view.by_workers:
        return [f"batcher resume {view.job.id}   (no process is running it)"]
    if missing:
        return [f"{one.command}   ({one.why})" for one in missing]
    command = "batcher workers" if missing is None else f"batcher status {view.job.id} --watch"
    return [f"{command}   (no worker holds any of it just now)"]


def echo_sample(store: Store, job: Job) -> None:
    """Print the first few answers compactly, so that a newcomer sees what came out."""
    with open_results(store, job, [ItemStatus.DONE]) as lines:
        for line in islice(lines, SAMPLE_DOCUMENTS):
            say(f"\n{visible_line(line.item.source)}")
            for name, value in _compact(line.output):
                say(f"  {visible_line(name)}: {_cut(value)}" if name else f"  {_cut(value)}")
    say("")


def _compact(output: Any) -> list[tuple[str, str]]:
    if not isinstance(output, dict):
        return [("", _words(output))]
    return [(name, _words(value)) for name, value in output.items()]


def _words(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, dict):
        return "; ".join(f"{name}: {words}" for name, part in value.items() if (words := _words(part)))
    return "" if value is None else orjson.dumps(value).decode()


def _cut(text: str, width: int = _SAMPLE_WIDTH) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"
