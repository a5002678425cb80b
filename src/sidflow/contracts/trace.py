"""Which artifacts and params this process has used, so that a test can hold dvc.yaml to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

_touched: dict[str, set[str]] = {"reads": set(), "writes": set(), "params": set()}


def note_read(path: Path) -> None:
    """Remember that `path` was read."""
    _touched["reads"].add(Path(path).as_posix())


def note_write(path: Path) -> None:
    """Remember that `path` was written."""
    _touched["writes"].add(Path(path).as_posix())


def note_param(name: str) -> None:
    """Remember that the param or section `name` was used."""
    _touched["params"].add(name)


def paths_read() -> list[Path]:
    """Return every path that this process has read, sorted."""
    return [Path(path) for path in sorted(_touched["reads"])]


def write_trace(stage: str) -> None:
    """Write what was touched to `$SIDFLOW_TRACE/<stage>.json`, if that variable is set."""
    folder = os.environ.get("SIDFLOW_TRACE")
    if not folder:
        return
    target = Path(folder) / f"{stage}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({kind: sorted(paths) for kind, paths in _touched.items()}))
