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

from ruamel.yaml import YAML

from sidflow.commands import dvc, git

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
    """Return the size and modification time of everything that decides whether a stage runs."""
    raw_data = (YAML(typ="safe").load((root / "params.yaml").read_text()).get("ingest") or {}).get("path") or ""
    found = {}
    for place in (*WATCHED, raw_data):
        for path in _files(root / place) if place else ():
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


def main() -> int:
    """Run what has to run, and say where to look."""
    if STAMP.is_file() and json.loads(STAMP.read_text()) == seen():
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
        STAMP.parent.mkdir(exist_ok=True)
        STAMP.write_text(json.dumps(seen()))
    print(f"report: {ROOT / REPORT}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)  # the stages have been told, too; what they keep is found again
