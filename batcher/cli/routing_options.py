"""The options of commands whose model may be chosen by its measured accuracy, and what they lead to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.arguments import Finite
from batcher.cli.output import note
from batcher.errors import CatalogError, ConfigurationError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.planning.choice import Usable
    from batcher.planning.order import Order, SubmitRequest
    from batcher.planning.sizes import Size
    from batcher.routing.wish import RouteWish
    from batcher.runtime import Runtime

_PRIVACY: Final = ("standard", "strict", "air-gapped")


def routing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--floor``, ``--privacy``, ``--max-latency`` and ``--learned-ladder``; they come as ``route``."""

    @click.option(
        "--floor",
        type=Finite(0, 1),
        metavar="SHARE",
        help="Let the cheapest model of the task's ladder do the work whose measured accuracy clears this"
        " share, 0 to 1; until one is known to, the task's own tier does. See docs/routing.md",
    )
    @click.option(
        "--privacy",
        type=click.Choice(_PRIVACY),
        help="With --floor: where documents may go. strict: to your own machines; air-gapped: to this one and"
        " private addresses. Default: standard.",
    )
    @click.option(
        "--max-latency",
        type=Finite(0, 86_400, min_open=True),
        metavar="SECONDS",
        help="With --floor: no model whose calls usually take longer.",
    )
    @click.option(
        "--learned-ladder",
        is_flag=True,
        help="Climb the ladder that `batcher ladder learn` calibrated for this task: cheap models first, and"
        " a dearer one where their answer is not sure enough.",
    )
    @functools.wraps(command)
    def with_wish(
        *args: Any,
        floor: float | None,
        privacy: str | None,
        max_latency: float | None,
        learned_ladder: bool,
        **given: Any,
    ) -> Any:
        from batcher.catalog.privacy import Privacy
        from batcher.routing.wish import RouteWish

        wish = RouteWish(floor, None if privacy is None else Privacy(privacy), max_latency, learned_ladder)
        return command(*args, route=wish, **given)

    return with_wish


def allowed_models(runtime: Runtime, wish: RouteWish) -> Usable:
    """Which models can be used and answer where documents may go."""
    from batcher.planning.choice import only_allowed

    return only_allowed(runtime.is_usable, runtime.place_of, wish.privacy)


def routed(
    runtime: Runtime,
    order: Order,
    connection: Connection | None,
    now: float,
    usable: Usable | None = None,
    sizes: Sequence[Size] = (),
) -> Order:
    """The order with the model that the evidence asks for, if it is to be routed.

    Args:
        runtime: settings and catalogue.
        order: the checked request.
        connection: a transaction; None: there is no store yet.
        now: Unix seconds.
        usable: which models take part; those that have their key by default.
        sizes: of its documents, where they are known; they tell what one costs.

    Raises:
        UsageError: if what the request says of its routing makes no sense.
        ConfigurationError: if no model may do the work.
    """
    from batcher.planning.choice import only_allowed
    from batcher.planning.routing import Router, is_routed

    wish, usable = order.request.route, usable or runtime.is_usable
    if wish.learned:
        from batcher.planning.learned_ladders import with_learned_ladder

        allowed = only_allowed(usable, runtime.place_of, wish.privacy)
        return with_learned_ladder(connection, order, runtime.catalog, allowed)
    settings = runtime.settings.routing
    if not is_routed(order, wish, settings):
        return order
    if not sizes:
        _note_off_ladder(order)
    router = Router(runtime.catalog, usable, runtime.place_of, settings)
    return router.first(connection, order, wish, now, sizes)


def _note_off_ladder(order: Order) -> None:
    ladder = order.task.ladder
    if order.tier not in ladder:
        note(
            f"Tier {order.tier} is not on the ladder of task {order.task.name} ({', '.join(ladder)}): the "
            "floor chooses among the models of that tier alone. Leave --tier out to choose among the others"
        )


def note_dropped(order: Order) -> None:
    """Say which rungs no answer climbs to."""
    if not order.dropped_rungs:
        return
    rungs, privacy = " and ".join(order.dropped_rungs), order.request.route.privacy
    if privacy in {None, _PRIVACY[0]}:
        note(f"Without a key for {rungs}: no answer climbs there.")
    else:
        note(f"No answer climbs to {rungs}: no model there has its key and answers where {privacy} allows.")


@contextmanager
def privacy_explained(runtime: Runtime, request: SubmitRequest) -> Iterator[None]:
    """Say of a request that finds no model that this is due to where its documents may go, if it is.

    Raises:
        ConfigurationError: instead of the one that came.
    """
    try:
        yield
    except CatalogError:
        raise
    except ConfigurationError as error:
        privacy = request.route.privacy
        if privacy in {None, _PRIVACY[0]}:
            raise
        why = _kept_out(runtime, request)
        only = f"With --privacy {privacy} only models on your own machines count"
        if why is None:
            raise ConfigurationError(f"{error}. {only}") from error
        raise ConfigurationError(f"{why[0]}. {only}: {why[1]}") from error


def _kept_out(runtime: Runtime, request: SubmitRequest) -> tuple[str, str] | None:
    """That a model answers where documents may not go, and what helps; None if it is something else."""
    from batcher.planning.order import check_request
    from batcher.planning.sampling import judge_models

    try:
        order = check_request(request, runtime.catalog, runtime.is_usable, runtime.settings.quality)
    except ConfigurationError:
        return None
    allowed = allowed_models(runtime, request.route)
    if not allowed(order.model):
        what = f"{order.model.name} of tier {order.tier} answers at {runtime.place_of(order.model)}"
        return what, "name their tier with --tier"
    judge = order.sampling.judge if order.sampling is not None else None
    judges = () if judge is None else judge_models(runtime.catalog, judge, runtime.is_usable)
    if judges and not any(map(allowed, judges)):
        what = f"{judges[0].name}, which is to judge, answers at {runtime.place_of(judges[0])}"
        return what, "name one of them with --judge, or --judge none"
    return None


def refuse_rehearsal(wish: RouteWish) -> None:
    """A rehearsal's answers say nothing of a model's accuracy.

    Raises:
        UsageError: if one is to be routed.
    """
    from batcher.routing.wish import RouteWish

    if wish != RouteWish():
        raise UsageError("--rehearse rehearses one tier, and measures no accuracy: leave --floor out")
