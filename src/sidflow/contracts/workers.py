"""Which of the processes that run one stage together this one is, as torch's and accelerate's launchers say it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def process_count() -> int:
    """Return how many processes run this stage together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def process_rank() -> int:
    """Return this process's number among them, from 0."""
    return int(os.environ["RANK"]) if process_count() > 1 else 0


def is_main_process() -> bool:
    """Return whether this is the process that prints, and writes checkpoints and artifacts: the first, or the only."""
    return process_rank() == 0


def report_error(line: str) -> None:
    """Print `line` as an error; with a launcher above, hand it over, since several processes may say the same."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE") if process_count() > 1 else None
    if file is None:
        print(line, file=sys.stderr)
    else:
        Path(file).write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
