"""The project's own files, whatever params.yaml and presets/ hold in this workspace."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sidflow.cli import presets

ROOT = Path(__file__).parents[1]


def base_params() -> dict[str, Any]:
    """Return the params of the preset `embedded`; params.yaml may hold another one, or edits."""
    with contextlib.chdir(ROOT):
        return YAML(typ="safe").load(presets.preset_text("embedded"))


def committed_text(path: str) -> str | None:
    """Return a file's text in the last commit; None where there is no commit (an archive) or no such file in it."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True)
    return shown.stdout if shown.returncode == 0 else None


def committed_presets() -> list[str]:
    """Return the names of the project's presets, without those that a user has added."""
    listed = subprocess.run(["git", "ls-files", "presets/*.yaml"], cwd=ROOT, capture_output=True, text=True)
    committed = {Path(line).stem for line in listed.stdout.splitlines()}
    names = presets.names(ROOT / "presets")
    return [name for name in names if name in committed] or names
