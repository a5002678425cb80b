"""Files and folders put away so that nothing is overwritten: a name that holds other content gets a number."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sidflow.core.files import atomic_path


def fits(source: Path, target: Path) -> bool:
    """Return whether `source` can be put at `target`: nothing is there, or the same content."""
    if os.path.lexists(target):
        return _same(source, target)
    return not any(parent.is_file() for parent in target.parents)


def free_path(source: Path, target: Path) -> Path:
    """Return the first of `name.yaml`, `name-2.yaml`, ... that `source` fits."""
    return next(path for path in _numbered(target) if fits(source, path))


def free_folder(folder: Path, paths: Sequence[Path], root: Path = Path()) -> Path:
    """Return the first of `folder`, `folder-2`, ... that all `paths` below `root` fit."""
    return next(free for free in _numbered(folder) if all(fits(root / path, free / path) for path in paths))


def move(path: Path, target: Path) -> None:
    """Move a file or folder to a place that it fits."""
    if os.path.lexists(target):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file over another, or to a new place."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() and other.is_dir():
        files, others = ({file.relative_to(folder) for file in folder.rglob("*")} for folder in (one, other))
        return files == others and all(
            _same(one / file, other / file) for file in files if not ((one / file).is_dir() and (other / file).is_dir())
        )
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
