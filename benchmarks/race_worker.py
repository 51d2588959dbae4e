"""One worker of a race: runs a job as ``batcher resume`` would, until it ends or is killed: ``HOME JOB``."""

from __future__ import annotations

import sys
from pathlib import Path

from fault_run import open_runtime, run_once

if __name__ == "__main__":
    print(run_once(open_runtime(Path(sys.argv[1])), int(sys.argv[2])), flush=True)
