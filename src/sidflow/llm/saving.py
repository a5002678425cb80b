"""Files that other libraries wrote into an artifact's folder: readable as ours are, and announced."""

from __future__ import annotations

import os
from pathlib import Path

from sidflow.contracts import trace


def announce(folder: Path) -> None:
    """Give every file in `folder` the usual permissions (safetensors' own are for the owner alone) and note it."""
    mask = os.umask(0)
    os.umask(mask)
    for path in sorted(folder.iterdir()):
        path.chmod(0o666 & ~mask)
        trace.note_write(path)
