"""Stages of a finished project as processes that can be killed, and what they leave, file by file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from tests.pipeline.project import Project

TARGET = "train_sequential@gru4rec"  # what the short version runs: a stage with checkpoints, and what it needs
POLL_SECONDS = 0.002


class Stage(NamedTuple):
    """One stage of a finished project."""

    name: str  # DVC's
    command: tuple[str, ...]
    outs: tuple[str, ...]  # files and folders, from the project's root
    seconds: float  # that it took


def stages_of(project: Project) -> list[Stage]:
    """Return the stages in the order of dvc.lock."""
    stages = []
    for name, entry in project.lock().items():
        command = entry["cmd"].removeprefix("PYTHONPATH=src ").split()
        costs = (Path(project.environment["SIDFLOW_CACHE"]) / "costs" / name).glob("*.json")
        seconds = max((json.loads(path.read_text())["wall_seconds"] for path in costs), default=0.0)
        stages.append(Stage(name, tuple(command), tuple(out["path"] for out in entry["outs"]), seconds))
    return stages


def is_temporary(path: Path, root: Path) -> bool:
    """Return whether a name on the way from `root` to `path` is that of a temporary file or folder."""
    return any(part.startswith(".") or part.endswith(".tmp") for part in path.relative_to(root).parts)


def files_of(folder: Path, outs: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of outs that exist, temporary ones beside or inside them included."""
    for out in outs:
        place = folder / out
        if place.is_dir():
            yield from (path for path in place.rglob("*") if path.is_file())
        elif place.is_file():
            yield place
        if place.parent.is_dir():
            for path in place.parent.iterdir():
                if path.name.startswith("."):
                    yield from (inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]


def hashes_of(folder: Path, outs: tuple[str, ...]) -> dict[str, str]:
    """Return the hash of every file of outs that is under its final name."""
    hashes = {}
    for path in files_of(folder, outs):
        if not is_temporary(path, folder):
            with contextlib.suppress(FileNotFoundError):  # replaced since it was listed
                hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def leftovers(folder: Path, outs: tuple[str, ...]) -> list[str]:
    """Return the temporary files of outs."""
    return sorted(
        {path.relative_to(folder).as_posix() for path in files_of(folder, outs) if is_temporary(path, folder)}
    )


def remove_outs(folder: Path, outs: tuple[str, ...]) -> None:
    """Remove outs as DVC does before it runs their stage."""
    for out in outs:
        place = folder / out
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def start(project: Project, command: tuple[str, ...], **environment: str) -> subprocess.Popen[str]:
    """Start `command` in the project as the leader of a process group; its output goes to files in .dvc/tmp."""
    scratch = project.folder / ".dvc/tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "fault.out").open("w") as out:
        return subprocess.Popen(
            command, cwd=project.folder, text=True, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env=project.environment | {"PYTHONPATH": "src"} | environment,
        )  # fmt: skip


def printed(project: Project) -> str:
    """Return what the process that was started last has printed."""
    return (project.folder / ".dvc/tmp/fault.out").read_text(errors="replace")


def kill_when(
    project: Project, process: subprocess.Popen[str], is_time: Callable[[float], bool], *, leader_only: bool = False
) -> bool:
    """Kill the process group as soon as `is_time` of the seconds so far; False where it ended before.

    With `leader_only` its children go on, as they do where somebody kills `dvc` alone.
    """
    begin = time.monotonic()
    while process.poll() is None:
        if is_time(time.monotonic() - begin):
            with contextlib.suppress(ProcessLookupError):
                (os.kill if leader_only else os.killpg)(process.pid, signal.SIGKILL)
            process.wait()
            if not leader_only:
                _wait_until_gone(project.folder)
            return process.returncode == -signal.SIGKILL
        time.sleep(POLL_SECONDS)
    return False


def _wait_until_gone(folder: Path) -> None:
    """Wait until no process runs in `folder`: a fork of the loaded process ends just after its `python`."""

    def runs_there(process: psutil.Process) -> bool:
        cwd = process.info["cwd"]
        return cwd is not None and Path(cwd) == folder.resolve() and process.status() != psutil.STATUS_ZOMBIE

    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any(runs_there(process) for process in psutil.process_iter(["cwd"])):
                return
        time.sleep(0.01)


def wait_for_group(process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    """Wait until no process of the group is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)


class Reference(NamedTuple):
    """What a stage writes when nothing disturbs it."""

    stage: Stage
    hashes: dict[str, str]


def reference_of(project: Project, stage: Stage) -> Reference:
    """Return the stage's files as they are in the finished project."""
    return Reference(stage, hashes_of(project.folder, stage.outs))


def half_files(project: Project, reference: Reference) -> list[str]:
    """Return the files that are under their final name, but with other bytes than the whole ones."""
    found = hashes_of(project.folder, reference.stage.outs)
    return [f"half file {name}" for name, value in found.items() if reference.hashes.get(name) != value]


def differences(project: Project, reference: Reference) -> list[str]:
    """Return how the files of a run that has ended differ from the whole ones; nothing temporary may be left."""
    found = hashes_of(project.folder, reference.stage.outs)
    names = sorted(found.keys() ^ reference.hashes.keys())
    other = [name for name, value in found.items() if reference.hashes.get(name, value) != value]
    left = leftovers(project.folder, reference.stage.outs)
    checkpoints = Path(project.environment["SIDFLOW_CACHE"]) / "checkpoints"
    left += sorted(path.name for path in checkpoints.iterdir()) if checkpoints.is_dir() else []
    return [
        *(f"missing or unknown file {name}" for name in names),
        *(f"other bytes in {name}" for name in other),
        *(f"left over: {name}" for name in left),
    ]
