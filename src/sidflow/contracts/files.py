"""Paths of a project's files, and writing that leaves either the whole new file or the old one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_PROJECT_ROOT: ContextVar[Path] = ContextVar("project_root", default=Path())  # default: the current folder


@contextmanager
def project_root(root: Path) -> Iterator[None]:
    """Resolve the paths of artifacts, params.yaml and runtime.yaml against `root` while the block runs.

    The Python API uses it, to work from any folder. Stages run in the project's root and do without.
    """
    token = _PROJECT_ROOT.set(root)
    try:
        yield
    finally:
        _PROJECT_ROOT.reset(token)


def project_path(path: str | Path) -> Path:
    """Return a path that is relative to the project's root as one that can be opened; absolute paths stay."""
    return _PROJECT_ROOT.get() / path


def default_permissions() -> int:
    """Return the permission bits that this process gives a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder that replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(default_permissions())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
