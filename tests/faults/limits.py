"""A write that fails at a random size, as on a full disk: one line, nothing lost, and the next run makes the same.

The limit is that of a file's size (`ulimit -f`), since it needs no mount: every writer, in Python or not, meets it as
an error of the system in the middle of a file.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.faults.runs import Reference, differences, half_files, printed, start
from tests.pipeline.project import Project


def limit_stage(project: Project, reference: Reference, generator: random.Random) -> list[str]:
    """Run the stage under a random limit and then without one; return what is wrong, empty where nothing is lost."""
    sizes = [(project.folder / name).stat().st_size for name in reference.hashes]
    blocks = generator.randint(0, max(0, max(sizes) // 1024 - 1))
    command = (sys.executable, *reference.stage.command[1:])
    limited = start(
        project,
        ("sh", "-c", f'ulimit -f {2 * blocks}; exec "$@"', "sh", *command),  # in units of 512 bytes
        SIDFLOW_CHECKPOINT_SECONDS="0.05",
    )
    code, problems = limited.wait(), []
    lines = [line for line in printed(project).splitlines() if "Traceback" in line or "expected" in line]
    if code not in (0, 2) or any("Traceback" in line for line in lines) or (code == 2 and len(lines) != 1):
        problems.append(f"under {blocks} KiB it ended with {code}: {printed(project)[-2000:]}")
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
