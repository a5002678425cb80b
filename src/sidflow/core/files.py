"""Files of the project: paths, atomic writes, and a record of reads and writes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import psutil

from sidflow.core.disk import check_file_target, check_folder_target, disk_errors
from sidflow.core.errors import InputError

_touched: dict[str, set[str]] = {"reads": set(), "writes": set(), "params": set()}


def note_read(path: Path) -> None:
    """Remember that `path` was read."""
    _touched["reads"].add(Path(path).as_posix())


def note_write(path: Path) -> None:
    """Remember that `path` was written."""
    _touched["writes"].add(Path(path).as_posix())


def note_param(name: str) -> None:
    """Remember that the param or section `name` was used."""
    _touched["params"].add(name)


def paths_read() -> list[Path]:
    """Return every path that this process has read, sorted."""
    return [Path(path) for path in sorted(_touched["reads"])]


def paths_written() -> list[Path]:
    """Return every path that this process has written as an artifact, sorted."""
    return [Path(path) for path in sorted(_touched["writes"])]


def file_md5(path: Path) -> str:
    """Return the md5 of a file's bytes, which is DVC's hash of it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def write_trace(stage: str) -> None:
    """Write the recorded reads, writes and params to `$SIDFLOW_TRACE/<stage>.json`, if that variable is set."""
    folder = os.environ.get("SIDFLOW_TRACE")
    if not folder:
        return
    target = Path(folder) / f"{stage}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({kind: sorted(paths) for kind, paths in _touched.items()}))


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
    """Yield a temporary path that replaces `path` when the block ends without an error.

    Raises:
        InputError: the disk is full, `path` is a folder, and the like; what was at `path` is unchanged.
    """
    with disk_errors(path):
        check_file_target(path)
        with _temporary_folder(path) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            temporary.chmod(default_permissions())
            temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to be made that takes the place of `path` when the block ends without an error.

    Raises:
        InputError: the disk is full, a file is at `path`, and the like; what was at `path` is unchanged.
    """
    with disk_errors(path):
        check_folder_target(path)
        with _temporary_folder(path) as folder:
            temporary, replaced = folder / path.name, folder / "replaced"
            yield temporary
            if path.is_dir():
                path.rename(replaced)  # a folder that is removed in place would be seen in part
            temporary.rename(path)


_MACHINE = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32]
_LEFTOVER = re.compile(rf"\..+\.{_MACHINE}-(\d+)-[^.]*\.tmp")


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` that is removed at the end; those that killed processes have left are removed first.

    All temporary files of a write are in it, those that libraries make of their own, too. Its name has the machine and
    the process, and ends in `.tmp`, which DVC ignores.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    prefix = f".{path.name[:100]}.{_MACHINE}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix, suffix=".tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed have left of their writes into `folder`."""
    for path in folder.iterdir():
        named = _LEFTOVER.fullmatch(path.name)
        if named and not _is_running(int(named[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@dataclass(frozen=True)
class Artifact:
    """A file of the project; its path may have placeholders, such as `{model}`."""

    path: str

    def at(self, **names: str) -> Path:
        """Return the path with its placeholders filled, for example `model="sasrec"`."""
        return project_path(self.path.format(**names))


@dataclass(frozen=True)
class VersionedArtifact(Artifact):
    """An artifact whose file records the name and version of its schema."""

    name: str
    version: int

    def require_file(self, path: Path, kind: str) -> None:
        """Check that the file exists, and note it as read.

        Raises:
            InputError: there is no such file, or a file is in the place of one of its folders.
        """
        note_read(path)
        if not path.is_file():
            check_folder_target(path.parent)
            raise InputError(
                str(path),
                expected=f"{kind} `{self.name}`",
                found="no such file",
                remedy="run `dvc repro` (or `dvc pull`) to make it",
            )

    def check_schema(self, path: Path, metadata: Mapping[str, object]) -> None:
        """Check the schema that a file's metadata records.

        Raises:
            InputError: it has another name or version.
        """
        if (metadata.get("schema"), metadata.get("version")) != (self.name, self.version):
            raise InputError(
                str(path),
                expected=f"schema {self.name} version {self.version}",
                found=f"{metadata.get('schema')} version {metadata.get('version')}",
                remedy="run `dvc repro` with this version of sidflow",
            )
