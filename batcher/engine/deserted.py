"""Corpora whose readers are gone: their jobs are paused, with how to go on, so that somebody is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from batcher.domain import JobState
from batcher.store.database import RETURN_S, Store
from batcher.store.jobs import set_state
from batcher.store.reading import HALF_READ, NOBODY, Reading, open_readings
from batcher.store.worker_names import is_dead, process_of

GONE: Final = f"{HALF_READ}: the process that read it is gone"


def pause_deserted(store: Store) -> list[int]:
    """Pause the jobs whose readers are gone, with how to go on; returns their ids."""
    with store.read() as connection:
        deserted = _deserted(store, open_readings(connection), store.now(connection))
    if not deserted:
        return []
    with store.write() as connection:
        now = store.now(connection)
        # One that was taken up in between is another reading than before.
        found = [reading for reading in open_readings(connection) if reading in deserted]
        return [
            reading.job_id
            for reading in found
            if set_state(
                connection,
                reading.job_id,
                JobState.PAUSED,
                now,
                reason=_reason(reading),
                only=[JobState.INGESTING],
            )
        ]


def _deserted(store: Store, readings: Sequence[Reading], now: float) -> list[Reading]:
    # While the store was away no reader could say that he is there.
    waits = store.back_for_s() < RETURN_S
    return [one for one in readings if _is_dead(one) or (one.until <= now and not waits)]


def _is_dead(reading: Reading) -> bool:
    return reading.reader != NOBODY and is_dead(reading.reader)


def _reason(reading: Reading) -> str:
    if reading.reader == NOBODY:
        return f"{HALF_READ}: no process has begun to. Begin with: batcher resume {reading.job_id}"
    return f"{GONE} ({process_of(reading.reader)}). Go on where it stopped: batcher resume {reading.job_id}"
