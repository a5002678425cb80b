"""Where a project is: commands that need one look here first."""

from __future__ import annotations

from pathlib import Path

from sidflow.contracts.errors import InputError

PROJECT_FILES = ("params.yaml", "dvc.yaml")
PRESET_FILES = ("dvc.yaml", "presets/embedded.yaml")  # what it takes to choose a preset, params.yaml being written then


def is_project(folder: Path = Path()) -> bool:
    """Tell whether `folder` is a project's root."""
    return not _absent(folder)


def require_project_files(*signs: str) -> None:
    """Refuse to go on outside of a project's root, which holds `PROJECT_FILES` (or those given).

    Raises:
        InputError: one of them is not here; where a folder above has them, it is named.
    """
    absent = _absent(Path(), signs or PROJECT_FILES)
    if not absent:
        return
    above = next((folder for folder in Path.cwd().parents if is_project(folder)), None)
    raise InputError(
        "this folder",
        expected=f"a sidflow project ({' and '.join(signs or PROJECT_FILES)})",
        found=f"no {' and no '.join(absent)}",
        remedy=f"cd {above}" if above else _remedy(absent),
    )


def _remedy(absent: list[str]) -> str:
    if absent == ["params.yaml"]:
        return "`sidflow preset apply embedded` writes it"
    return "cd to the project's folder (the clone of its repository)"


def _absent(folder: Path, signs: tuple[str, ...] = PROJECT_FILES) -> list[str]:
    return [sign for sign in signs if not (folder / sign).is_file()]
