"""`dvc repro`, but a run that has nothing to do says so at once. Run: make repro (python -m tools.repro).

DVC takes some seconds to find that forty stages are up to date. Here the sizes and times of every file that it would
look at are kept after a run that ended well; while none differs, there is nothing to ask DVC.

DVC runs through quick_dvc.py, since it reads and writes the whole of dvc.lock after each stage. In a fresh clone, with
no cache and no remote, the committed lock can spare no stage: it is set aside, so that DVC starts with an empty one and
writes the same again, growing; and as everything has to run, two halves of the pipeline run side by side (lanes.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidflow.commands import dvc, git
from sidflow.contracts import yamls
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
STAMP = ROOT / ".sidflow/last_run.json"
WATCHED = ("dvc.yaml", "dvc.lock", "params.yaml", "src", "stages", "artifacts")
REPORT = "artifacts/report/report.html"


def _files(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    elif place.is_file():
        yield place


def seen(root: Path = ROOT) -> dict[str, list[int]]:
    """Return the size and modification time of everything that decides whether a stage runs.

    Raises:
        InputError: params.yaml has a slip.
    """
    params = root / "params.yaml"
    ingest = yamls.read_mapping(params).get("ingest") if params.is_file() else None
    raw_data = ingest.get("path") if isinstance(ingest, dict) else None
    found = {}
    for place in (*WATCHED, *([str(raw_data)] if raw_data else [])):
        for path in _files(root / place):
            status = path.stat()
            found[str(path)] = [status.st_size, status.st_mtime_ns]
    return found


def is_idle(lock: Path) -> bool:
    """Tell whether nothing that `lock` names can be had without running its stage."""
    if dvc.run("remote", "list", folder=ROOT).stdout.strip():
        return False
    committed = set(git.run("ls-files", "artifacts", folder=ROOT).stdout.splitlines())
    cache = dvc.cache_folder(ROOT)
    made = [out for out in dvc.locked_outs(lock) if out.path not in committed]
    return not any((ROOT / out.path).exists() or (cache and dvc.cached(cache, out.md5)) for out in made)


def _stamp() -> Any:
    """Return what was seen after the last run that ended well; None where that is not known."""
    try:
        return json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):  # none, or a broken one
        return None


def main() -> int:
    """Run what has to run, and say where to look; bad input ends in one line and exit code 2."""
    try:
        return _run()
    except InputError:
        from sidflow.contracts.running import in_one_line  # loaded late, as are the lanes below

        with in_one_line("make repro"):
            raise


def _run() -> int:
    if seen() == _stamp():
        print("Data and pipelines are up to date: nothing changed since the last run.")
    else:
        STAMP.unlink(missing_ok=True)
        if is_idle(ROOT / dvc.LOCK):
            (ROOT / dvc.LOCK).unlink(missing_ok=True)
            from tools import lanes  # what it imports would slow down the answer that there is nothing to do

            if lanes.are_worth_it() and (status := lanes.fill(ROOT)):
                return status
        status = subprocess.run([sys.executable, "tools/quick_dvc.py", "repro"], cwd=ROOT, check=False).returncode
        if status:
            return status
        with atomic_path(STAMP) as temporary:
            temporary.write_text(json.dumps(seen()))
    print(f"report: {ROOT / REPORT}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # the stages have been told, too; what they keep is found again
