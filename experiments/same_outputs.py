"""Print the outputs of the pipeline that differ between two states of dvc.lock.

    python experiments/same_outputs.py REV              the commit REV against the workspace
    python experiments/same_outputs.py REV OTHER        two commits
    python experiments/same_outputs.py path/dvc.lock    a lock file of another clone against the workspace

An output is a file, or each file of a folder where DVC's cache still lists the folder. Stages may have other names:
outputs are compared by path. Exit code 1 where an output of the first state differs or is gone in the second.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

LOCK = Path("dvc.lock")


class Comparison(NamedTuple):
    """Paths of outputs, sorted."""

    same: list[str]
    different: list[str]
    only_before: list[str]
    only_after: list[str]


def hashes(lock: str) -> dict[str, str]:
    """Return the md5 of every output in the text of a dvc.lock, by path; of a folder it ends in `.dir`."""
    stages = YAML(typ="safe").load(lock)["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def by_file(before: dict[str, str], after: dict[str, str], caches: list[Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Return both states with the files of a folder in its place, where a cache lists the folder of both states.

    Args:
        before: md5 by path, as `hashes` returns it.
        after: the other state.
        caches: folders of DVC caches.
    """
    states: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for path in before.keys() | after.keys():
        listings = [_listing(state[path], caches) if path in state else [] for state in (before, after)]
        for state, expanded, listing in zip((before, after), states, listings, strict=True):
            if None in listings:
                expanded.update({path: state[path]} if path in state else {})
            for file in listing if listing and None not in listings else []:
                expanded[f"{path}/{file['relpath']}" if file["relpath"] else path] = file["md5"]
    return states


def compare(before: dict[str, str], after: dict[str, str]) -> Comparison:
    """Return which outputs are the same, differ, or stand in one state alone."""
    common = sorted(before.keys() & after.keys())
    return Comparison(
        [path for path in common if before[path] == after[path]],
        [path for path in common if before[path] != after[path]],
        sorted(before.keys() - after.keys()),
        sorted(after.keys() - before.keys()),
    )


def _listing(md5: str, caches: list[Path]) -> list[dict[str, str]] | None:
    """Return the files behind a hash: one without a name of a file, those of a folder; None where no cache lists it."""
    if not md5.endswith(".dir"):
        return [{"relpath": "", "md5": md5}]
    for cache in caches:
        path = cache / "files/md5" / md5[:2] / md5[2:]
        if path.is_file():
            return json.loads(path.read_text())
    return None


def _read(state: str) -> tuple[str, list[Path]]:
    """Return the text of a lock and the cache beside it; `state` is a lock's path, a revision, or "" (workspace)."""
    path = Path(state) if state else LOCK
    if path.is_file():
        return path.read_text(), [path.resolve().parent / ".dvc/cache"]
    done = subprocess.run(["git", "show", f"{state}:{LOCK}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{state}: neither a lock file nor a revision with {LOCK}: {done.stderr.strip()}")
    return done.stdout, []


def main(before: str, after: str = "") -> int:
    """Print the comparison of two states; return 0 where every output of the first is the same in the second."""
    (lock, cache), (other_lock, other_cache) = _read(before), _read(after)
    caches = [Path(".dvc/cache"), *cache, *other_cache]
    result = compare(*by_file(hashes(lock), hashes(other_lock), caches))
    for title, paths in (
        ("differs", result.different),
        ("only before", result.only_before),
        ("only after", result.only_after),
    ):
        for path in paths:
            print(f"{title}: {path}")
    print(
        f"{len(result.same)} outputs are the same, {len(result.different)} differ, "
        f"{len(result.only_before)} only before, {len(result.only_after)} only after"
    )
    return 1 if result.different or result.only_before else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
