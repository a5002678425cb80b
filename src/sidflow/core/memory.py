"""Peak memory of this process, with the standard library alone: benchmarks use it in interpreters of other projects."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

PROCESS_STATUS = Path("/proc/self/status")


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB of 10^6 bytes.

    On Linux `ru_maxrss` survives exec, so that it can be that of the process that started this one.
    """
    if PROCESS_STATUS.is_file():
        for line in PROCESS_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
