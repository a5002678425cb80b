"""Where a project is: commands that need one look here first."""

from __future__ import annotations

from pathlib import Path

from sidflow.contracts.errors import InputError

PROJECT_FILES = ("params.yaml", "dvc.yaml")
PRESET_FILES = ("dvc.yaml", "presets/embedded.yaml")  # what it takes to choose a preset, params.yaml being written then


def is_project(folder: Path = Path()) -> bool:
    """Tell whether `folder` is a project's root."""
    return not _absent(folder)


def require_project_files(*files: str) -> None:
    """Check that the current folder is a project's root: that it holds `files`, by default `PROJECT_FILES`.

    Raises:
        InputError: one of them is not here; where a folder above has them, it is named.
    """
    absent = _absent(Path(), files or PROJECT_FILES)
    if not absent:
        return
    above = next((folder for folder in Path.cwd().parents if is_project(folder)), None)
    raise InputError(
        "this folder",
        expected=f"a sidflow project ({' and '.join(files or PROJECT_FILES)})",
        found=f"no {' and no '.join(absent)}",
        remedy=f"cd {above}" if above else _remedy(absent),
    )


def _remedy(absent: list[str]) -> str:
    if absent == ["params.yaml"]:
        return "`sidflow preset apply embedded` writes it"
    return "cd to the project's folder (the clone of its repository)"


def _absent(folder: Path, files: tuple[str, ...] = PROJECT_FILES) -> list[str]:
    return [file for file in files if not (folder / file).is_file()]
