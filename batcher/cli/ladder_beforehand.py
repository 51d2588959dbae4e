"""What ``batcher ladder learn`` looks at before anything is paid: whether a ladder can come of it at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.cli.output import note
from batcher.errors import UsageError

if TYPE_CHECKING:
    from batcher.planning.known import KnownDocuments
    from batcher.planning.ladder_checks import RungJudging
    from batcher.planning.order import Order
    from batcher.runtime import Runtime


def check_limit(limit: int | None) -> None:
    """Refuse a ``--limit`` that leaves too few known answers.

    Raises:
        UsageError: if it does.
    """
    from batcher.routing.ladder.records import LEAST_ROWS

    if limit is not None and limit < LEAST_ROWS:
        raise UsageError(f"--limit {limit}: a ladder needs at least {LEAST_ROWS} known answers, better 300")


def check_one_step(order: Order) -> None:
    """Refuse a task with stages, whose documents could never climb the ladder.

    Raises:
        UsageError: if it is one.
    """
    if order.stages:
        raise UsageError(
            f"A ladder is learned for a task of one step, and {order.spec.name} has {len(order.stages) + 1}: "
            "submit --learned-ladder does not take it either"
        )


def judging_by(runtime: Runtime, order: Order, judge: str | None) -> RungJudging | None:
    """The judging by what ``--judge`` names; None without one, and for ``none``.

    Raises:
        UsageError: if there is no such tier or model.
        ConfigurationError: if none of its models can be used.
    """
    from batcher.planning.ladder_checks import RungJudging
    from batcher.planning.sampling import check_exists
    from batcher.quality.sampling import chosen_judge

    named = chosen_judge([judge])
    if named is None:
        return None
    check_exists(runtime.catalog, named, is_named=True)
    return RungJudging.of(order.spec, named, runtime.catalog, runtime.is_usable)


def check_known(order: Order, known: KnownDocuments) -> None:
    """Refuse too few known documents, and try the task's verifier on them.

    Raises:
        UsageError: if there are too few that hold text.
        TaskError: if the verifier fails on a right answer.
    """
    from batcher.planning.ladder_checks import try_verifier
    from batcher.routing.ladder.records import LEAST_ROWS

    count = sum(not one.document.images for one in known.documents)
    if count < LEAST_ROWS:
        raise UsageError(
            f"{count} known document{'' if count == 1 else 's'} of text can be learned from; a ladder needs "
            f"at least {LEAST_ROWS}, better 300"
        )
    if order.task.verifier is not None:
        note("Trying the task's verifier on the known answers ...")
        if not try_verifier(order.task, order.spec, known):
            note("Warning: no right answer is a whole one: the verifier could not be tried on any")
