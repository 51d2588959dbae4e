"""``python -m batcher``: the same as the ``batcher`` command."""

from __future__ import annotations

import sys

from batcher.cli import main

sys.exit(main())
