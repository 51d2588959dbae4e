"""``python -m batcher.cli``: the ``batcher`` command."""

from __future__ import annotations

import sys

from batcher.cli import main

if __name__ == "__main__":
    sys.exit(main())
