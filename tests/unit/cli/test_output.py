"""Times for people and machines: in the zone whose days the ledger counts, and labelled as such."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from batcher.cli import main
from batcher.cli.output import iso_time, local_time, show_times_in

MOMENT = 1_795_208_400.0
"""2026-11-20 21:00 UTC."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine that runs in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield monkeypatch
    show_times_in(None)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "shown", "iso"),
    [
        (None, "2026-11-20 21:00", "2026-11-20T21:00:00+00:00"),
        ("UTC", "2026-11-20 21:00", "2026-11-20T21:00:00+00:00"),
        ("Asia/Tokyo", "2026-11-21 06:00 JST", "2026-11-21T06:00:00+09:00"),
        ("Europe/Berlin", "2026-11-20 22:00 CET", "2026-11-20T22:00:00+01:00"),
        ("America/Sao_Paulo", "2026-11-20 18:00 -03", "2026-11-20T18:00:00-03:00"),
    ],
)
def test_times_are_the_ledgers(zone: str | None, shown: str, iso: str) -> None:
    show_times_in(zone)
    assert local_time(MOMENT) == shown
    assert iso_time(MOMENT) == iso
    assert (local_time(None), iso_time(None)) == ("", None)


def test_the_zone_is_left_out_where_the_machine_shows_the_same_time(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    show_times_in("Asia/Tokyo")
    assert local_time(MOMENT) == "2026-11-21 06:00"
    show_times_in("UTC")
    assert local_time(MOMENT) == "2026-11-20 21:00 UTC"


def test_a_command_shows_times_in_the_zone_of_its_settings(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("BATCHER_TIME_ZONE", "Asia/Tokyo")
    assert main(["db", "--help"]) == 0
    assert local_time(MOMENT) == "2026-11-21 06:00 JST"
    machine.delenv("BATCHER_TIME_ZONE")
    assert main(["db", "--help"]) == 0
    assert local_time(MOMENT) == "2026-11-20 21:00"
