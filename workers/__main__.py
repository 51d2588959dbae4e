"""``python -P -m workers PARENT WORD...``: Celery's command line on our app, for as long as the parent lives.

``batcher worker`` starts its children so: Celery's own ``--app`` would look in the working folder first.
"""

from __future__ import annotations

import signal
import sys

from batcher.processes import end_with


def main(words: list[str]) -> int | None:
    """Run a command of Celery; returns its exit code.

    Args:
        words: the parent's process id, then the command line.
    """
    end_with(int(words[0]), signal.SIGTERM)
    from workers.app import app

    code: int | None = app.start(words[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
