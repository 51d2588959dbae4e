"""How far the judging of a job's answers is, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher.cli.budget import raising_commands
from batcher.cli.output import iso_time, local_time
from batcher.domain import JobState

if TYPE_CHECKING:
    from batcher.quality.judging_state import JudgingState
    from batcher.store.jobs import Job


def judging_words(found: JudgingState | None) -> str:
    """What is judged, what waits and why, what failed and how; "" if there is nothing to judge."""
    if found is None:
        return ""
    parts = [f"{found.judged:,} judged"]
    if found.waiting:
        verb = "waits" if found.waiting == 1 else "wait"
        parts.append(f"{found.waiting:,} {verb}" + (f" ({_reason(found)})" if found.reason else ""))
    if found.failed:
        classes = ", ".join(f"{name} {count:,}" for name, count in found.failed.items())
        parts.append(f"{sum(found.failed.values()):,} failed ({classes})")
    if found.nobody:
        parts.append(f"{found.nobody:,} that no model of the judge's may judge")
    return ", ".join(parts)


def _reason(found: JudgingState) -> str:
    until = "" if found.resume_at is None else f", until {local_time(found.resume_at)}"
    return f"{found.reason}{until}"


def judging_commands(found: JudgingState | None, job: Job) -> list[str]:
    """What sets judging going again that does not go on by itself."""
    if found is None or job.state is JobState.CANCELLED:
        return []
    commands = []
    if found.trouble and found.waiting:
        commands += raising_commands(found.reason or "")
        if job.state is JobState.DONE:
            commands.append(f"batcher resume {job.id}   (its answers are judged then)")
    if found.failed:
        commands.append(f"batcher retry {job.id}   (asks the judge again)")
    return commands


def judging_json(found: JudgingState | None) -> dict[str, Any] | None:
    """The same as JSON values; None if there is nothing to judge."""
    if found is None:
        return None
    return {
        "judged": found.judged,
        "waiting": found.waiting,
        "failed": sum(found.failed.values()),
        "failed_by_class": found.failed,
        "not_judgeable": found.nobody,
        "reason": found.reason if found.waiting else None,
        "resume_at": iso_time(found.resume_at),
        "jobs": [job.id for job in found.jobs],
    }
