"""Log lines of worker processes and of who keeps them running: one JSON object each, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as SlowError

_IDS: Final = ("job_id", "item_id", "attempt_id", "lease_id", "tier", "model")
"""What records carry beside their message, if they concern one."""

_CHATTY: Final = (
    *("alembic", "httpx", "httpx2", "httpcore", "httpcore2"),
    *("celery.app.trace", "celery.worker.strategy"),
)
"""They say something of every call, message or start."""


_LOSSES: Final = (OSError, OperationalError, LostError, SlowError)


class JsonFormatter(logging.Formatter):
    """``{"time": ..., "level": ..., "logger": ..., "message": ..., "job_id": ...}``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        is_plain = _tells_of_a_lost_broker(record)
        said = record.getMessage()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": said.partition("\n")[0] if is_plain else said,
        }
        line |= {name: getattr(record, name) for name in _IDS if hasattr(record, name)}
        if record.exc_info and not is_plain:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _tells_of_a_lost_broker(record: logging.LogRecord) -> bool:
    """Whether Celery shows a trace that says no more than its message: the connection is lost.

    What stops on a connection that is closed already fails in ways of its own; Celery tells of them in
    ``celery.bootsteps``, with the error in the message.
    """
    if record.exc_info is None or record.name.partition(".")[0] not in {"celery", "kombu"}:
        return False
    return record.name == "celery.bootsteps" or isinstance(record.exc_info[1], _LOSSES)


def log_as_json(level: int = logging.INFO) -> None:
    """Send everything from ``level`` up to standard error, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
