"""Writes that fail at a random size: one line, nothing lost, and the next run makes the same.

`SmallDisk` is a real full disk: a tmpfs with little room left, in a mount namespace of its own, which needs no root.
Where the system gives no such namespace the limit is that of a file's size (`ulimit -f`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.faults.runs import Reference, differences, half_files, printed, start
from tests.pipeline.project import Project

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
MARK = "FAULTS_NAMESPACE"  # set inside


def has_namespaces() -> bool:
    """Return whether this user can mount a tmpfs in a namespace."""
    command = (*NAMESPACE, "sh", "-c", "mount -t tmpfs -o size=64k none /mnt")
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def enter_namespace(module: str) -> None:
    """Run `python -m module` with this process's arguments in a mount namespace, in place of this process."""
    if MARK not in os.environ and has_namespaces():
        os.environ[MARK] = "1"
        os.execvp(NAMESPACE[0], (*NAMESPACE, sys.executable, "-m", module, *sys.argv[1:]))


class SmallDisk(NamedTuple):
    """A tmpfs that holds a project's artifacts and checkpoints, and a file that takes up what room is left."""

    folder: Path

    @classmethod
    def mount(cls, project: Project, folder: Path, megabytes: int = 256) -> SmallDisk:
        """Move the artifacts of `project` and its cache folder onto a new tmpfs at `folder`."""
        folder.mkdir()
        subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder), check=True)
        artifacts = project.folder / "artifacts"
        shutil.copytree(artifacts, folder / "artifacts", symlinks=True)
        shutil.rmtree(artifacts)
        artifacts.mkdir()
        subprocess.run(("mount", "--bind", folder / "artifacts", artifacts), check=True)
        project.environment["SIDFLOW_CACHE"] = str(folder / "cache")
        return cls(folder)

    def unmount(self, project: Project) -> None:
        """Remove the disk and what is on it."""
        for place in (project.folder / "artifacts", self.folder):
            subprocess.run(("umount", place), check=True)

    def leave(self, size: int) -> None:
        """Fill the disk so that `size` bytes are free, in pages of 4 KiB."""
        state = os.statvfs(self.folder)
        with (self.folder / "ballast").open("wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, max(4096, state.f_bavail * state.f_frsize - size))

    def free(self) -> None:
        """Empty it."""
        (self.folder / "ballast").unlink()


def limit_stage(
    project: Project, reference: Reference, generator: random.Random, disk: SmallDisk | None = None
) -> list[str]:
    """Run the stage with a random room and then with enough; return what is wrong, empty where nothing is lost."""
    sizes = [(project.folder / name).stat().st_size for name in reference.hashes]
    command, shell = reference.stage.command, ()
    if disk is None:
        blocks = generator.randint(0, max(0, max(sizes) // 1024 - 1))
        told, shell = f"files of at most {blocks} KiB", ("sh", "-c", f'ulimit -f {2 * blocks}; exec "$@"', "sh")
    else:
        room = generator.randrange(max(1, sum(sizes)))
        told = f"{room} bytes of room"
        disk.leave(room)
    limited = start(project, (*shell, *command), SIDFLOW_CHECKPOINT_SECONDS="0.05")
    code, problems = limited.wait(), []
    if disk is not None:
        disk.free()
    lines = [line for line in printed(project).splitlines() if "Traceback" in line or "expected" in line]
    if code not in (0, 2) or any("Traceback" in line for line in lines) or (code == 2 and len(lines) != 1):
        problems.append(f"with {told} it ended with {code}: {printed(project)[-2000:]}")
    problems += half_files(project, reference)
    again = start(project, command)
    if again.wait():
        problems.append(f"the run after it ended with {again.returncode}: {printed(project)[-2000:]}")
    return problems + differences(project, reference)


def cut_checkpoint(project: Project) -> int:
    """Cut every checkpoint in the cache to half its size; return how many there were."""
    paths = list((Path(project.environment["SIDFLOW_CACHE"]) / "checkpoints").glob("*.safetensors"))
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return len(paths)
