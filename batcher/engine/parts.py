"""The answers for the parts of a long document, on their way to one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from batcher.catalog.tokens import estimate_tokens


def group_by_size(answers: Sequence[Any], room: int) -> list[list[Any]]:
    """Answers in order, in as few groups as fit ``room`` tokens each; a group has at least one."""
    groups: list[list[Any]] = []
    left = 0
    for answer in answers:
        tokens = estimate_tokens(orjson.dumps(answer).decode())
        if not groups or tokens > left:
            groups.append([])
            left = room
        groups[-1].append(answer)
        left -= tokens
    return groups
