"""Artifact files that other libraries have written: given the usual permissions, and recorded as written."""

from __future__ import annotations

from pathlib import Path

from sidflow.contracts.files import default_permissions
from sidflow.contracts.trace import note_write


def record_written_files(folder: Path) -> None:
    """Record every file in `folder` as written, and give it the permissions that a new file gets.

    Safetensors' own files are readable by their owner alone.
    """
    for path in sorted(folder.iterdir()):
        path.chmod(default_permissions())
        note_write(path)
