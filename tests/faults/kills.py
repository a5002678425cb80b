"""`kill -9` at random moments of a stage and of `dvc repro`: nothing half is visible, and the rerun makes the same."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML, YAMLError
from tests.faults.runs import (
    Reference,
    differences,
    files_of,
    half_files,
    kill_when,
    printed,
    remove_outs,
    start,
    wait_for_group,
)
from tests.pipeline.project import Project

CHECKPOINT_SECONDS = "0.05"


class Moment(NamedTuple):
    """When to kill: after a share of the stage's seconds, or as soon as a number of new files has been seen."""

    share: float | None
    files: int = 0

    def __str__(self) -> str:
        return f"new file {self.files}" if self.share is None else f"{self.share:.0%} of its time"


def moments(count: int, generator: random.Random) -> list[Moment]:
    """Return random moments: half of them by time, half of them while a file is being written."""
    return [
        Moment(generator.random()) if index % 2 == 0 else Moment(None, generator.randint(1, 8))
        for index in range(count)
    ]


def kill_stage(project: Project, reference: Reference, moment: Moment) -> list[str]:
    """Kill a run of the stage, run it again, and return what is wrong then; empty where nothing is lost."""
    stage = reference.stage
    remove_outs(project.folder, stage.outs)
    _forget_answers(project)
    command = stage.command
    process = start(project, command, SIDFLOW_CHECKPOINT_SECONDS=CHECKPOINT_SECONDS)
    kill_when(project, process, _is_time(project, reference, moment))
    problems = half_files(project, reference)
    remove_outs(project.folder, stage.outs)
    again = start(project, command, SIDFLOW_CHECKPOINT_SECONDS=CHECKPOINT_SECONDS)
    if again.wait():
        problems.append(f"the rerun ended with {again.returncode}: {printed(project)[-2000:]}")
    return problems + differences(project, reference)


def _forget_answers(project: Project) -> None:
    """Remove what models have written and encoded, so that the stage asks for it again and is killed at work."""
    for path in Path(project.environment["SIDFLOW_CACHE"]).glob("*.sqlite*"):
        path.unlink()


def _is_time(project: Project, reference: Reference, moment: Moment) -> Callable[[float], bool]:
    if moment.share is not None:
        share = moment.share
        return lambda seconds: seconds >= share * reference.stage.seconds
    seen: set[Path] = set(_watched(project, reference))

    def enough(_: float) -> bool:
        seen.update(_watched(project, reference))
        return len(seen) >= already + moment.files

    already = len(seen)
    return enough


def _watched(project: Project, reference: Reference) -> list[Path]:
    checkpoints = Path(project.environment["SIDFLOW_CACHE"]) / "checkpoints"
    try:
        kept = [path for path in checkpoints.rglob("*") if path.is_file()] if checkpoints.is_dir() else []
        return [*files_of(project.folder, reference.stage.outs), *kept]
    except FileNotFoundError:  # a folder went while it was listed
        return []


class Repro(NamedTuple):
    """What became of `dvc repro` that was killed again and again."""

    killed: int
    problems: list[str]
    locks_mended: int  # files of DVC that a kill cut, put right as docs/faults.md says


def mend_locks(folder: Path) -> int:
    """Put DVC's own files right where a kill has cut them, as docs/faults.md says; return how many there were."""
    mended = 0
    try:
        json.loads((folder / ".dvc/tmp/rwlock").read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        (folder / ".dvc/tmp/rwlock").unlink()
        mended += 1
    lock = folder / "dvc.lock"
    if lock.is_file():
        try:
            whole = YAML(typ="safe").load(lock.read_text()) is not None
        except YAMLError:
            whole = False
        if not whole:
            lock.unlink()  # what `git checkout` comes to here, where nothing of it is committed
            mended += 1
    return mended


def kill_repro(
    project: Project, count: int, generator: random.Random, longest: float, targets: tuple[str, ...] = ()
) -> Repro:
    """Kill `dvc repro` at `count` random moments, run it to its end, and compare every hash with those before.

    In turn the whole process group is killed, and DVC alone while its stage goes on. Each run continues where the one
    before was killed; where the end is reached all is removed and computed again.

    Args:
        project: finished, with a cache of DVC of its own; it is emptied.
        count: how often.
        generator: of the moments.
        longest: seconds until a kill at most.
        targets: the stages that DVC is asked for; all where there are none.
    """
    expected, problems, killed, mended = project.hashes(), [], 0, 0
    orphans = []
    _forget(project)
    while killed < count:
        process = start(project, ("dvc", "repro", *targets))
        moment = generator.uniform(0.2, longest)
        leader_only = killed % 2 == 1
        if kill_when(project, process, lambda seconds, moment=moment: seconds >= moment, leader_only=leader_only):
            killed += 1
            orphans.append(process)
            mended += mend_locks(project.folder)
            problems += _unlike(project, expected, f"after kill {killed}")
        elif process.returncode:
            problems.append(
                f"`dvc repro` after kill {killed} ended with {process.returncode}: {printed(project)[-2000:]}"
            )
            break
        else:
            problems += _unlike(project, expected, f"after kill {killed}, at its end")
            _forget(project)
    process = start(project, ("dvc", "repro", *targets))
    if process.wait():
        problems.append(f"the last `dvc repro` ended with {process.returncode}: {printed(project)[-2000:]}")
    for orphan in orphans:
        wait_for_group(orphan)
    problems += _unlike(project, expected, "at the end")
    if project.hashes().keys() != expected.keys():
        problems.append("the lock has other outs")
    state = project.run("dvc", "status", "-q", *targets, check=False)
    if state.strip():
        problems.append(f"dvc status: {state[-500:]}")
    return Repro(killed, problems, mended)


def _unlike(project: Project, expected: dict[str, str], when: str) -> list[str]:
    """Return the outs in dvc.lock whose hash is not the expected one."""
    if not (project.folder / "dvc.lock").is_file():
        return []
    found = project.hashes()
    return [f"other bytes in {path} {when}" for path, value in found.items() if expected.get(path) != value]


def _forget(project: Project) -> None:
    """Remove what was computed, and DVC's own memory of it."""
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    for name in ("artifacts", ".dvc/cache", ".sidflow"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
