"""The git command, its output captured."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sidflow.contracts.errors import InputError


def run_git(*arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    """Run `git`, whatever it ends with."""
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def git_output(*arguments: str, folder: Path = Path()) -> str:
    """Return what `git` prints.

    Raises:
        InputError: it failed.
    """
    ran = run_git(*arguments, folder=folder)
    if ran.returncode:
        raise InputError(
            "git",
            expected=f"`git {arguments[0]}` to work",
            found=ran.stderr.strip(),
            remedy="run in the project's folder",
        )
    return ran.stdout
