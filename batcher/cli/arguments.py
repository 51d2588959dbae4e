"""Types of arguments that several commands take."""

from __future__ import annotations

from typing import Final

import click


class _JobId(click.IntRange):
    """A job's number, as large as a database's 64-bit integer."""

    name = "integer"


JOB_ID: Final = _JobId(1, 2**63 - 1)
MANY: Final = click.IntRange(1, 1_000_000_000)
"""How many of something at most."""
