"""Where documents start, in words: a task's rules and router, and what of them a request cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.catalog.models import Catalog
    from batcher.planning.choice import Usable
    from batcher.planning.order import Order
    from batcher.tasks.definition import Task


def entry_lines(task: Task) -> list[str]:
    """A line for each rule, in order, and one for the router; none if all start on the task's tier."""
    first = task.before[0] if task.before else task
    lines = [rule.describe() for rule in task.entry]
    if task.router is not None:
        routes = ", ".join(f"{label} -> {tier}" for label, tier in task.router.routes.items())
        asked = "the others: " if lines else ""
        lines.append(f"{asked}a router on {task.router.tier} is asked: {routes}")
    return [*lines, f"else -> {first.tier}"] if lines else []


def router_json(task: Task) -> dict[str, Any] | None:
    """A task's router as plain values."""
    router = task.router
    if router is None:
        return None
    return {
        "tier": router.tier,
        "routes": dict(router.routes),
        "max_output_tokens": router.max_output_tokens,
        "read_tokens": router.read_tokens,
    }


def note_entry(order: Order, catalog: Catalog, is_usable: Usable) -> None:
    """Tell what of the task's rules and router a request cannot have."""
    first = order.first
    if not (first.spec.entry or first.spec.router):
        return
    if order.pinned_model is not None or order.routing is not None or order.ladder_policy_id is not None:
        note("The task's rules and router take no part: something else chooses the model.")
        return
    for tier, rung in (first.entry.moved() if first.entry else {}).items():
        why = f", without a key for {tier}" if tier in first.dropped_rungs else ""
        note(f"Documents that a rule starts on {tier} start on {rung}{why}.")
    router = first.spec.router
    if router is not None and not any(is_usable(model) for model in catalog.tier(router.tier)):
        note(f"Without a key for {router.tier}, nobody is asked where documents start.")
