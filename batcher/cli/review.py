"""``batcher review``: a person labels drawn answers, by keys on a terminal, elsewhere one by one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.arguments import JOB_ID
from batcher.cli.output import echo_json, note, say, visible_line
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher.cli.review_loop import Desk
    from batcher.quality.review import Opinion, ReviewItem
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job
    from batcher.tasks.spec import TaskSpec

_SHOWN: Final = 10


@click.command("review")
@click.argument("job", type=JOB_ID, required=False)
@click.option("--as", "name", metavar="NAME", help="Who you are. Default: your login name.")
@click.option("--tier", help="Only answers of this tier.")
@click.option("--only-disagreements", is_flag=True, help="Only answers of which two said different things.")
@click.option(
    "--export",
    "export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what people found right, or fixed, as known answers for --golden, and label nothing.",
)
@click.option("--next", "show_next", is_flag=True, help="Print the next answer to look at, and end.")
@click.option(
    "--label",
    nargs=2,
    type=(click.IntRange(min=1), click.Choice(["right", "wrong", "fix", "none"])),
    metavar="ITEM LABEL",
    help="Label an answer, and end: right, wrong, fix (with --answer), or none to take a label back.",
)
@click.option("--answer", metavar="JSON", help="With --label ITEM fix: the right answer; - reads it.")
@click.option("--remark", default="", help="With --label: why.")
@click.option("--json", "as_json", is_flag=True, help="With --next and --label: print JSON.")
@click.pass_obj
def review(
    settings: Settings,
    job: int | None,
    name: str | None,
    tier: str | None,
    only_disagreements: bool,
    export: Path | None,
    show_next: bool,
    label: tuple[int, str] | None,
    answer: str | None,
    remark: str,
    as_json: bool,
) -> int:
    """Label drawn answers: right, wrong, or fixed.

    Without JOB, of the newest one. Labels are stored at once; what you have labelled is not shown again. A
    person's word counts before a judge's, and shows how far judges can be trusted.
    """
    from batcher.runtime import Runtime
    from batcher.store.jobs import get_job, newest_job_id

    _check_together(export, label, answer, remark, show_next=show_next, as_json=as_json)
    runtime = Runtime(settings)
    with runtime.store.read() as connection:
        found = get_job(connection, newest_job_id(connection) if job is None else job)
    _check_tier(runtime, found, tier)
    if export is not None:
        return _export(runtime, found, export)
    desk = _desk(runtime, found, _reviewer(name), tier, only_disagreements=only_disagreements)
    if label is not None:
        return _label(desk, *label, answer=answer, remark=remark, as_json=as_json)
    if show_next:
        return _show_next(desk, as_json=as_json)
    return _sit(desk)


def _check_together(
    export: Path | None,
    label: tuple[int, str] | None,
    answer: str | None,
    remark: str,
    *,
    show_next: bool,
    as_json: bool,
) -> None:
    """Refuse what would be ignored."""
    ways = {"--export": export is not None, "--next": show_next, "--label": label is not None}
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} do not go together")
    for name, word in (("--answer", answer), ("--remark", remark)):
        if word and label is None:
            raise UsageError(f"{name} goes with --label ITEM LABEL")
    if as_json and not (show_next or label):
        raise UsageError("--json goes with --next or --label ITEM LABEL")


def _check_tier(runtime: Runtime, job: Job, tier: str | None) -> None:
    tiers = dict.fromkeys((*runtime.catalog.tiers, *job.ladder, job.tier))
    if tier is not None and tier not in tiers:
        raise UsageError(f"There is no tier {tier!r}. There are: {', '.join(tiers)}")


def _sit(desk: Desk) -> int:
    from batcher.cli.keyboard import Keyboard
    from batcher.cli.review_loop import Review

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "Labelling by keys needs a terminal. Without one: batcher review --next --json shows an answer,"
            " batcher review --label ITEM right labels it"
        )
    with Keyboard() as keyboard:
        labelled = Review(desk, keyboard).run()
    click.clear()
    _tell_left(desk, labelled)
    return 0


def _tell_left(desk: Desk, labelled: int) -> None:
    from batcher.quality.review import review_progress

    left = len(desk.queue())
    with desk.store.read() as connection:
        progress = review_progress(connection, desk.job_id, desk.by)
    if progress.labelled + progress.left == 0:
        note(
            f"Nothing was drawn of job {desk.job_id}: its answers were there already, or it was submitted"
            " with --sample 0."
        )
        return
    what = f"{labelled:,} label{'' if labelled == 1 else 's'}"
    note(f"Job {desk.job_id}: {what} in this sitting, {progress.labelled:,} by you in all, {left:,} left.")
    note(f"How the job stands: batcher status {desk.job_id}")


def _desk(runtime: Runtime, job: Job, by: str, tier: str | None, *, only_disagreements: bool) -> Desk:
    from batcher.cli.review_loop import Desk
    from batcher.tasks.answers import AnswerParser
    from batcher.tasks.spec import TaskSpec

    spec = TaskSpec.from_json(job.spec)
    task = runtime.find_task(spec)
    return Desk(
        store=runtime.store,
        job_id=job.id,
        by=by,
        parser=AnswerParser(spec, task),
        scorer=_scorer(runtime, spec),
        tier=tier,
        only_disagreements=only_disagreements,
    )


def _scorer(runtime: Runtime, spec: TaskSpec) -> Callable[[Any, Any], tuple[float, bool]] | None:
    """How right an answer is against one that was fixed, by the task's own scorer, if its code is here."""
    task = runtime.find_task(spec)
    if task is None or task.is_judged:
        return None

    def score(expected: Any, output: Any) -> tuple[float, bool]:
        value = task.score(expected, output).value
        return value, value >= spec.correct_at

    return score


def _reviewer(name: str | None) -> str:
    import getpass

    from batcher.quality.judge import by_person

    try:
        return by_person((name if name is not None else getpass.getuser()).strip())
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"Say who you are with --as NAME: {error}") from error


def _show_next(desk: Desk, *, as_json: bool) -> int:
    from batcher.cli.review_page import answer_lines

    queue = desk.queue()
    item = desk.item(queue[0]) if queue else None
    if as_json:
        echo_json({"item": None if item is None else _item_json(item, desk), "left": len(queue)})
    elif item is None:
        note("There is nothing left to look at.")
    else:
        say(f"Item {item.item_id}: {visible_line(item.source)} ({item.tier}, {item.model})")
        say(item.text)
        say("\n" + "\n".join(answer_lines(item.output)))
    return 0


def _item_json(item: ReviewItem, desk: Desk) -> dict[str, Any]:
    """An answer as JSON; what others said is told only of answers that were labelled, or disagreed on."""
    own = item.own(desk.by)
    told = desk.only_disagreements or own is not None
    return {
        "job_id": item.job_id,
        "item_id": item.item_id,
        "source": item.source,
        "tier": item.tier,
        "model": item.model,
        "document": item.text,
        "pictures": item.image_count,
        "answer": item.output,
        "opinions": [_opinion_json(one) for one in item.opinions] if told else None,
    }


def _opinion_json(one: Opinion) -> dict[str, Any]:
    return {
        "by": one.judged_by,
        "correct": one.correct,
        "score": one.score,
        "expected": one.expected,
        "note": one.note or None,
    }


def _label(desk: Desk, item_id: int, word: str, *, answer: str | None, remark: str, as_json: bool) -> int:
    from batcher.quality.review import Label, take_label_back

    item = desk.item(item_id)
    if item.job_id != desk.job_id:
        raise UsageError(f"Item {item_id} is of job {item.job_id}, not of job {desk.job_id}")
    if word == "none":
        with desk.store.write() as connection:
            taken = take_label_back(connection, item_id, desk.by)
        if as_json:
            echo_json({"item_id": item_id, "label": word, "taken_back": taken})
        else:
            note(f"Item {item_id}: {'your label is taken back' if taken else 'you had not labelled it'}.")
        return 0
    if (word == "fix") != (answer is not None):
        raise UsageError("--answer goes with --label ITEM fix, and that with --answer")
    fixed = None if answer is None else _read_answer(desk, answer)
    own = desk.label(item, Label(word), fixed=fixed, remark=remark)
    others = [one for one in item.others(desk.by) if one.correct != own.correct]
    if as_json:
        told = {"disagreements": [_opinion_json(one) for one in others]}
        echo_json({"item_id": item_id, "label": word} | _opinion_json(own) | told)
        return 0
    from batcher.cli.review_page import disagreement_lines

    for line in disagreement_lines(own, others):
        note(line)
    return 0


def _read_answer(desk: Desk, answer: str) -> Any:
    from batcher.tasks.answers import InvalidAnswerError

    try:
        return desk.parser.parse(sys.stdin.read() if answer == "-" else answer)
    except InvalidAnswerError as error:
        raise UsageError(f"The answer does not fit the task: {error.reason}") from error


def _note_unfixed(job: Job, items: list[int]) -> None:
    were = "1 answer was" if len(items) == 1 else f"{len(items):,} answers were"
    named = ", ".join(map(str, items[:_SHOWN])) + (" and so on" if len(items) > _SHOWN else "")
    note(
        f"Left out: {were} found wrong and not fixed (item {named}), so the right one is not known. "
        "Measured on the rest, the same model looks better than it is. Fix them first: "
        f"batcher review {job.id} --label ITEM fix --answer JSON"
    )


def _export(runtime: Runtime, job: Job, path: Path) -> int:
    import orjson

    from batcher.export.files import open_whole
    from batcher.quality.review import golden_rows, unfixed_items

    count = 0
    with runtime.store.read() as connection, open_whole(path) as stream:
        for row in golden_rows(connection, job.id):
            stream.write(orjson.dumps(row) + b"\n")
            count += 1
        unfixed = unfixed_items(connection, job.id)
    if unfixed:
        _note_unfixed(job, unfixed)
    if count == 0:
        note(f"Nobody has found an answer of job {job.id} right, or fixed one, yet: {path} is empty.")
        return 0
    note(f"Wrote {count:,} known answer{'' if count == 1 else 's'} of job {job.id} to {path}")
    note(f"Measure with them: batcher submit PATH --task {job.task} --golden {path}")
    return 0
