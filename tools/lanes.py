"""Two runs of DVC side by side: most stages keep one core busy, and half of the pipeline does not wait for the other.

`fill` runs first what both halves need, then each half in a DVC of its own (`repro --single-item`, in topological
order). DVC lets go of its lock while a command runs, and `--wait-for-lock` has each wait for the other's bookkeeping.
The bytes are those of one after another: no stage sees how many others run, and the lock is put into dvc.yaml's order.
What depends on both halves is left to the `dvc repro` that has to follow, which also finds whatever a half has missed.
"""

from __future__ import annotations

import graphlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tools import quick_dvc

from sidflow.commands import dag, dvc
from sidflow.commands.dag import Stage
from sidflow.contracts import params

DVC = (sys.executable, "tools/quick_dvc.py", "--wait-for-lock", "repro", "--single-item")
LAST_OF_FIRST_HALF = "finetune"  # what this group of stages needs is a half
DATA = ("ingest", "split", "describe", "embed")  # what both halves need


class Lanes(NamedTuple):
    """Names of stages, each list in an order in which they can run."""

    before: list[str]
    halves: tuple[list[str], list[str]]


def parted(stages: Iterable[Stage]) -> Lanes:
    """Part the DAG: `before`, then two halves of which no stage reads what the other half makes."""
    by_name = {stage.name: stage for stage in stages}
    needs = {name: _needs(stage, by_name.values()) for name, stage in by_name.items()}
    order = list(graphlib.TopologicalSorter(needs).static_order())
    before = {name for name in order if name in DATA}
    first = {name for name in order if _group(name) == LAST_OF_FIRST_HALF}
    for name in reversed(order):
        if any(name in needs[later] for later in first):
            first.add(name)
    first -= before
    second: set[str] = set()
    for name in order:
        if name in before | first:
            continue
        if needs[name] <= before | first and needs[name] & first:
            first.add(name)
        elif needs[name] <= before | second:
            second.add(name)
    return Lanes(
        [name for name in order if name in before],
        ([name for name in order if name in first], [name for name in order if name in second]),
    )


def fill(root: Path) -> int:
    """Run `before` and both halves of the project in `root`; return 0, or the exit code of one that failed."""
    stages = dag.stages(params.load_all(root / params.PATH), root / dag.PATH)
    lanes = parted(stages)
    if status := subprocess.run([*DVC, *lanes.before], cwd=root, check=False).returncode:
        return status
    running = [subprocess.Popen([*DVC, *half], cwd=root) for half in lanes.halves if half]
    try:
        status = max((process.wait() for process in running), key=abs, default=0)
    finally:
        for process in running:
            process.terminate()  # nothing to one that has ended
    if (root / dvc.LOCK).exists():
        with quick_dvc.modify(root / dvc.LOCK) as lock:
            lock["stages"] = {
                stage.name: lock["stages"][stage.name] for stage in stages if stage.name in lock["stages"]
            }
    return status


def are_worth_it() -> bool:
    """Tell whether a second core is there; a GPU's memory is left to one stage at a time."""
    return (os.cpu_count() or 1) > 1 and not shutil.which("nvidia-smi")


def _group(name: str) -> str:
    return name.partition("@")[0]


def _needs(stage: Stage, everyone: Iterable[Stage]) -> set[str]:
    return {
        other.name
        for other in everyone
        if other.name != stage.name and any(_overlap(dep, out) for dep in stage.deps for out in other.outs)
    }


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents
