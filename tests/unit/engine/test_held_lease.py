"""How long a worker may believe that a lease is its own: as long as every clock agrees."""

from __future__ import annotations

import asyncio
import time

import pytest

from batcher.engine.held_leases import HeldLease
from batcher.limits.clock import Moment


def ago(*, loop_s: float = 0.0, machine_s: float = 0.0, wall_s: float = 0.0) -> Moment:
    """A moment that lies back by so much on each clock."""
    now = Moment.now()
    return Moment(now.loop_s - loop_s, now.machine_s - machine_s, now.wall_s - wall_s)


async def test_a_lease_is_valid_until_its_time_is_over_and_longer_if_it_is_renewed() -> None:
    lease = HeldLease(7, 10.0, 1, ago(loop_s=9, machine_s=9, wall_s=9))
    assert lease.is_valid()
    lease.renewed(ago(loop_s=11, machine_s=11, wall_s=11))
    assert not lease.is_valid()
    lease.renewed(Moment.now())
    assert lease.is_valid()
    lease.lost()
    assert not lease.is_valid()


@pytest.mark.parametrize("clock", ["loop_s", "machine_s", "wall_s"])
async def test_the_clock_that_says_most_counts(clock: str) -> None:
    """A stopped process, a sleeping machine, a virtual machine that stood still: one clock each tells."""
    assert HeldLease(7, 10.0, 1, ago(**{clock: 9})).is_valid()
    assert not HeldLease(7, 10.0, 1, ago(**{clock: 11})).is_valid()


async def test_a_clock_that_is_set_back_makes_no_lease_longer() -> None:
    assert not HeldLease(7, 10.0, 1, ago(loop_s=11, machine_s=11, wall_s=-3600)).is_valid()


async def test_real_time_passes() -> None:
    lease = HeldLease(7, 0.05, 1, Moment.now())
    assert lease.is_valid()
    time.sleep(0.06)  # noqa: ASYNC251 - the process stands still, as if it were stopped
    assert not lease.is_valid()
    await asyncio.sleep(0)


def test_attempt_ids_are_unique_across_leases() -> None:
    async def ids() -> list[int]:
        leases = [HeldLease(number, 1.0, 1, Moment.now()) for number in (1, 2)]
        return [lease.next_attempt_id() for lease in leases for _ in range(3)]

    made = asyncio.run(ids())
    assert len(set(made)) == 6
