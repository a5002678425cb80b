"""DVC's executable, its lock and its cache; the library itself is never imported."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sidflow.contracts import yamls
from sidflow.contracts.errors import InputError

LOCK_PATH = Path("dvc.lock")


class LockedOut(NamedTuple):
    """One out as dvc.lock knows it."""

    stage: str
    path: str
    md5: str  # ends in `.dir` for a folder


def dvc_executable() -> Path | None:
    """Return DVC beside this Python, else on the PATH, else None."""
    beside = Path(sys.executable).parent / "dvc"
    program = str(beside) if beside.is_file() else shutil.which("dvc")
    return Path(program) if program else None


def dvc_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for DVC: `python` in a stage's command is this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **(extra or {})}


def run_dvc(*arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    """Run `dvc` with its output captured.

    Raises:
        InputError: there is no DVC.
    """
    program = dvc_executable()
    if program is None:
        raise InputError("dvc", expected="the dvc command", found="none", remedy="`make` installs it into .venv")
    return subprocess.run(
        [str(program), *arguments], cwd=folder, env=dvc_environment(), capture_output=True, text=True, check=False
    )


def read_lock(path: Path = LOCK_PATH) -> dict:
    """Return dvc.lock's stages by name; empty where nothing has run."""
    return (yamls.read_yaml_mapping(path).get("stages") or {}) if path.is_file() else {}


def locked_outs(path: Path = LOCK_PATH) -> list[LockedOut]:
    """Return every out that dvc.lock names, in its order."""
    return [
        LockedOut(stage, out["path"], str(out.get("md5") or ""))
        for stage, body in read_lock(path).items()
        for out in body.get("outs", [])
    ]


def dvc_cache_folder(folder: Path = Path()) -> Path | None:
    """Return the folder of DVC's local cache, or None outside of a DVC project."""
    answer = run_dvc("cache", "dir", folder=folder)
    return (folder / answer.stdout.strip()).resolve() if answer.returncode == 0 and answer.stdout.strip() else None


def is_cached(cache: Path, md5: str) -> bool:
    """Tell whether the cache holds the file or the folder's listing of that hash."""
    return bool(md5) and cached_object(cache, md5).is_file()


def cached_listing(cache: Path, md5: str) -> dict[str, str] | None:
    """Return the hash of every file of a cached folder by its path in there; None where the cache lacks the listing."""
    if not md5.endswith(".dir") or not is_cached(cache, md5):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(cached_object(cache, md5).read_text())}


def matches_lock(path: Path, md5: str, cache: Path) -> bool:
    """Tell whether what lies at `path` is what the lock says, and the cache can bring it back."""
    if not is_cached(cache, md5):
        return False
    if not md5.endswith(".dir"):
        return path.is_file() and file_md5(path) == md5
    locked = cached_listing(cache, md5) or {}
    present = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if not file.is_dir()}
    return set(locked) == set(present) and all(
        cached_object(cache, locked[name]).is_file() and file_md5(file) == locked[name]
        for name, file in present.items()
    )


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cached_object(cache: Path, md5: str) -> Path:
    """Return where the cache keeps, or would keep, what has that hash."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]
