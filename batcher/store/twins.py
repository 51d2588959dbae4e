"""Which items could take each other's answer: those of one key whose jobs accept a model in common."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, or_, select

from batcher.domain import LeaseState
from batcher.store.tables import jobs, leases


def accepts_key(model_names: Sequence[str]) -> int:
    """A 31-bit name for a set of acceptable models: items that accept the same ones share a call."""
    return zlib.crc32("\n".join(sorted(model_names)).encode()) & 0x7FFFFFFF


def keys_in_common(connection: Connection, job_id: int) -> list[int]:
    """The accepts keys of a job, and of those being worked on that accept a model that it accepts too."""
    found = connection.execute(_ACCEPTED, {"b_job": job_id})
    sets = {row.id: frozenset(json.loads(row.accepts)) for row in found}
    own = sets[job_id]
    return sorted({accepts_key(tuple(names)) for names in sets.values() if names & own})


_ACCEPTED: Final = select(jobs.c.id, jobs.c.accepts).where(
    or_(
        jobs.c.id == bindparam("b_job"),
        jobs.c.id.in_(select(leases.c.job_id).where(leases.c.state == LeaseState.ACTIVE.value)),
    )
)
