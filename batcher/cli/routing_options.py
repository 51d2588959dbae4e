"""The options of commands whose model may be chosen by its measured accuracy, and what they lead to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from batcher.cli.arguments import Finite
from batcher.errors import CatalogError, ConfigurationError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.planning.choice import Usable
    from batcher.planning.order import Order
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
    from batcher.planning.routing import only_allowed

    return only_allowed(runtime.is_usable, runtime.place_of, wish.privacy)


def routed(runtime: Runtime, order: Order, connection: Connection | None, now: float) -> Order:
    """The order with the model that the evidence asks for, if it is to be routed.

    Raises:
        UsageError: if what the request says of its routing makes no sense.
        ConfigurationError: if no model may do the work.
    """
    from batcher.planning.routing import is_routed

    wish = order.request.route
    if wish.learned:
        from batcher.planning.learned_ladders import with_learned_ladder

        return with_learned_ladder(connection, order, runtime.catalog, allowed_models(runtime, wish))
    if not is_routed(order, wish, runtime.settings.routing):
        return order
    return runtime.router.first(connection, order, wish, now)


@contextmanager
def privacy_explained(wish: RouteWish) -> Iterator[None]:
    """Say of a request that finds no model that this may be due to where its documents may go.

    Raises:
        ConfigurationError: instead of the one that came.
    """
    try:
        yield
    except CatalogError:
        raise
    except ConfigurationError as error:
        if wish.privacy in {None, _PRIVACY[0]}:
            raise
        raise ConfigurationError(
            f"{error}. With --privacy {wish.privacy} only models on your own machines count: name their tier"
        ) from error


def refuse_rehearsal(wish: RouteWish) -> None:
    """A rehearsal's answers say nothing of a model's accuracy.

    Raises:
        UsageError: if one is to be routed.
    """
    from batcher.routing.wish import RouteWish

    if wish != RouteWish():
        raise UsageError("--rehearse rehearses one tier, and measures no accuracy: leave --floor out")
