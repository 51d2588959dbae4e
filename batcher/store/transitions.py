"""The one place where states change: every UPDATE of a state names the states that it may leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from batcher.errors import IllegalTransitionError

S = TypeVar("S", bound=StrEnum)


def sources_of(table: Mapping[S, frozenset[S]], target: S, only: Iterable[S] | None = None) -> list[str]:
    """The states that may change into ``target``, for a WHERE clause.

    Args:
        table: one of the transition tables in domain.py.
        target: the state to reach.
        only: narrow it to these states; each must be legal.

    Raises:
        IllegalTransitionError: if no state, or one of ``only``, may change into ``target``.
    """
    legal = [state for state, targets in table.items() if target in targets]
    wanted = legal if only is None else list(only)
    illegal = [state for state in wanted if state not in legal]
    if illegal or not wanted:
        raise IllegalTransitionError(f"No legal change from {', '.join(illegal) or 'any state'} to {target}")
    return [state.value for state in wanted]
