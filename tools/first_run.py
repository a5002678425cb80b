"""Make the artifacts of a fresh clone with two DVC processes side by side. Run: make repro (python -m tools.first_run).

Most stages keep one core busy. What both halves of the pipeline need runs first. Then each half runs in a
`dvc repro --single-item` of its own, in topological order. DVC releases its lock while a stage's command runs, and
`--wait-for-lock` makes each process wait for the other's bookkeeping. What depends on both halves is left to the
`dvc repro` that follows. The bytes are those of a run one stage after another: no stage knows how many others run.
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

from sidflow.cli.dvc import DAG_PATH, Stage, dag_stages
from sidflow.core import params
from sidflow.core.stage import errors_in_one_line

DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item")
DATA = ("ingest", "split", "train_writer", "describe", "embed")  # what both halves need
SLOWEST = "finetune"  # the group of stages whose ancestors are one half


class Halves(NamedTuple):
    """Names of stages, each list in an order in which they can run."""

    before: list[str]
    first: list[str]
    second: list[str]


def halves_of(stages: Iterable[Stage]) -> Halves:
    """Return the stages that both halves need, and two halves of which neither reads what the other makes."""
    by_name = {stage.name: stage for stage in stages}
    dependencies = {name: _dependencies(stage, by_name.values()) for name, stage in by_name.items()}
    order = list(graphlib.TopologicalSorter(dependencies).static_order())
    before = {name for name in order if name in DATA}
    first = {name for name in order if name.partition("@")[0] == SLOWEST}
    for name in reversed(order):
        if any(name in dependencies[later] for later in first):
            first.add(name)
    first -= before
    second: set[str] = set()
    for name in order:
        if name in before | first:
            continue
        if dependencies[name] <= before | first and dependencies[name] & first:
            first.add(name)
        elif dependencies[name] <= before | second:
            second.add(name)
    return Halves(*([name for name in order if name in group] for group in (before, first, second)))


def run_side_by_side(root: Path) -> int:
    """Run both halves of the project in `root`; return 0, or the exit code of a DVC process that failed."""
    halves = halves_of(dag_stages(params.load_params(root / params.PARAMS_PATH), root / DAG_PATH))
    if status := subprocess.run([*DVC, *halves.before], cwd=root, check=False).returncode:
        return status
    processes = [subprocess.Popen([*DVC, *half], cwd=root) for half in (halves.first, halves.second) if half]
    try:
        return max((process.wait() for process in processes), key=abs, default=0)
    finally:
        for process in processes:
            process.terminate()  # does nothing to a process that has ended


def has_spare_core() -> bool:
    """Return whether two stages can run at once: there are two cores, and no GPU whose memory they would share."""
    return (os.cpu_count() or 1) > 1 and not shutil.which("nvidia-smi")


def _dependencies(stage: Stage, stages: Iterable[Stage]) -> set[str]:
    return {
        other.name
        for other in stages
        if other.name != stage.name and any(_overlap(dep, out) for dep in stage.deps for out in other.outs)
    }


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


if __name__ == "__main__":
    try:
        with errors_in_one_line("make repro"):
            sys.exit(run_side_by_side(Path()) if has_spare_core() else 0)
    except KeyboardInterrupt:
        sys.exit(130)  # the stages are interrupted, too; their checkpoints stay
