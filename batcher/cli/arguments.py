"""Types of arguments that several commands take."""

from __future__ import annotations

import math
from typing import Any, Final

import click


class _JobId(click.IntRange):
    """A job's number, as large as a database's 64-bit integer."""

    name = "integer"


class Finite(click.FloatRange):
    """A number within a range; ``nan`` is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See :class:`click.ParamType`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


JOB_ID: Final = _JobId(1, 2**63 - 1)
MANY: Final = click.IntRange(1, 1_000_000_000)
"""How many of something at most."""
