"""A temporary copy of a project in which a preset has run: all artifacts shared but those that are made again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from side_by_side import ROOT


def share(project: Path, copy: Path, model: str, copied: Collection[str] = ("reports",)) -> None:
    """Link every artifact of `project` but those of `model`, which are made again, and of the folders `copied`."""
    shutil.copy(project / "params.yaml", copy / "params.yaml")
    for path in sorted(project.glob("artifacts/**/*")):
        target = copy / path.relative_to(project)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.relative_to(project).parts[1] in copied:
            shutil.copy(path, target)
        elif model not in path.parts:
            target.symlink_to(path.resolve())


def edit(path: Path, changes: Mapping[str, Any]) -> None:
    """Set params by their dotted names."""
    yaml = YAML()
    content = yaml.load(path.read_text())
    for name, value in changes.items():
        *sections, last = name.split(".")
        node = content
        for section in sections:
            node = node[section]
        node[last] = value
    with path.open("w") as stream:
        yaml.dump(content, stream)


def run(copy: Path, stages: Iterable[tuple[str, ...]], what: str) -> None:
    """Run stages of this code in `copy`, each a script and its arguments; exit with what it said if one fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SIDFLOW_CACHE": str(copy / "cache")}
    for script, *arguments in stages:
        done = subprocess.run(
            [sys.executable, str(ROOT / f"stages/{script}.py"), *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{what}: stage {script} failed:\n{done.stderr[-3000:]}")
