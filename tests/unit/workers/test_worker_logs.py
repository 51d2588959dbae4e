"""JSON lines of workers, and the engine's own words in them."""

from __future__ import annotations

import json
import logging

import pytest
from kombu.exceptions import OperationalError

from batcher.dispatch.json_log import JsonFormatter
from batcher.engine.log import LINES_PER_MINUTE, EngineLog, Sparing


def record(message: str, **ids: object) -> logging.LogRecord:
    made = logging.getLogger("batcher.test").makeRecord(
        "batcher.test", logging.WARNING, __file__, 1, message, (), None, extra=ids
    )
    made.created = 1795176000.25
    return made


def test_a_record_is_one_line_of_json_with_the_ids_that_it_carries() -> None:
    line = JsonFormatter().format(record("two\nlines", job_id=3, item_id=9, secret="not shown"))
    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("process") > 0
    assert read == {
        "time": "2026-11-20T12:00:00.250+00:00", "level": "warning", "logger": "batcher.test",
        "message": "two\nlines", "job_id": 3, "item_id": 9,
    }  # fmt: skip


def test_an_exception_is_in_the_line_too() -> None:
    try:
        raise ValueError("odd")
    except ValueError as error:
        failed = record("it failed")
        failed.exc_info = (ValueError, error, error.__traceback__)
    assert "ValueError: odd" in json.loads(JsonFormatter().format(failed))["traceback"]


@pytest.mark.parametrize(
    ("logger", "error"),
    [("celery.beat", OperationalError("refused")), ("celery.bootsteps", AttributeError("channel"))],
)
def test_a_broker_that_is_lost_is_one_line_without_a_trace(logger: str, error: Exception) -> None:
    failed = record("Message Error: refused\n['a stack']")
    failed.name = logger
    failed.exc_info = (type(error), error, None)
    read = json.loads(JsonFormatter().format(failed))
    assert (read["message"], "traceback" in read) == ("Message Error: refused", False)


def test_lines_alike_are_spared_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "batcher.engine"):
        sparing = Sparing()
        for number in range(LINES_PER_MINUTE + 40):
            sparing.log(logging.INFO, "call failed: %s", "overloaded", job_id=number)
        assert len(caplog.messages) == LINES_PER_MINUTE
        sparing._since -= 61
        sparing.log(logging.INFO, "call failed: %s", "overloaded", job_id=1)
    assert caplog.messages[-1] == "call failed: overloaded (40 more like it were not logged)"
    assert caplog.records[0].__dict__["job_id"] == 0


def test_a_dead_letter_is_a_warning_with_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "batcher.engine"):
        EngineLog().item_failed(1, 2, "economy", None)
    [said] = caplog.records
    assert (said.levelname, said.__dict__["job_id"], said.__dict__["item_id"]) == ("WARNING", 1, 2)


def test_nothing_is_made_for_a_level_that_nobody_hears(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "batcher.engine"):
        EngineLog().item_failed(1, 2, "economy", None)
    assert caplog.records == []
