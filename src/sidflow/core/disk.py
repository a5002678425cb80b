"""Failures of the file system, such as a full disk, as errors of one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sidflow.core.errors import InputError

_CODE_IN_MESSAGE = re.compile(r"\(os error (\d+)\)")  # how libraries written in Rust put it


class _Failure(NamedTuple):
    expected: str
    found: str
    remedy: str


_FULL = _Failure(
    "room on the disk",
    "no space left on the device",
    "free disk space there and run the same command again; nothing that was there is changed",
)
_PERMISSION = _Failure("permission to use it", "permission denied", "change its permissions, or name another place")
_FILE_IN_THE_WAY = _Failure("folders on the way to it", "a file in place of a folder", "move that file away")
_FAILURES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _Failure(_FULL.expected, "the user's quota is used up", _FULL.remedy),
    errno.EFBIG: _Failure("a file of any size", "the limit of a file's size", "raise the limit (`ulimit -f`)"),
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _Failure("a place to write to", "a read-only file system", "name another place, or mount it writable"),
    errno.ENOTDIR: _FILE_IN_THE_WAY,
    errno.EEXIST: _FILE_IN_THE_WAY,
    errno.EISDIR: _Failure("a file", "a folder of that name", "name a file, or move the folder away"),
    errno.ENOTEMPTY: _Failure("an empty folder", "files in it", "name another folder, or move the files away"),
    errno.ENAMETOOLONG: _Failure("a shorter name", "a name that the file system refuses", "choose a shorter name"),
    errno.EMFILE: _Failure("files to open", "the limit of open files", "raise the limit (`ulimit -n`)"),
    errno.EIO: _Failure("a disk that answers", "an input/output error", "check the disk, then run it again"),
}


def disk_error(error: BaseException, path: Path | str | None = None) -> InputError | None:
    """Return a failure of the file system as an `InputError`; None where `error` is none.

    Args:
        error: an `OSError`, or a library's own error that repeats the system's message.
        path: the file or folder that was used; by default the one that `error` names.
    """
    in_message = _CODE_IN_MESSAGE.search(str(error))
    code = error.errno if isinstance(error, OSError) else int(in_message[1]) if in_message else None
    failure = _FAILURES.get(code) if code is not None else None
    if failure is None:
        return None
    named = path if path is not None else getattr(error, "filename", None)
    place = Path(named if isinstance(named, (str, Path)) else Path.cwd())
    if failure is _FILE_IN_THE_WAY:
        place = next((parent for parent in (*place.parents[::-1], place) if parent.is_file()), place)
    return InputError(str(place), expected=failure.expected, found=failure.found, remedy=failure.remedy)


@contextmanager
def disk_errors(path: Path | str | None = None) -> Iterator[None]:
    """Raise failures of the file system in the block as an `InputError` that names `path`.

    Raises:
        InputError: no space is left, a file is in the place of a folder, permission is denied, and the like.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        failure = disk_error(error, path)
        if failure is None:
            raise
        raise failure from error


def check_folder_target(path: Path) -> None:
    """Check that a folder is at `path` or can be made there: before long work, and where something is not found in it.

    Raises:
        InputError: a file is in the place of one of its folders, or has its name.
    """
    if any(place.exists() and not place.is_dir() for place in (path, *path.parents)):
        raise _failure(errno.ENOTDIR, path)


def check_file_target(path: Path) -> None:
    """Check that a file can be written at `path`, before long work begins.

    Raises:
        InputError: it is a folder, or a file is in the place of one of its folders.
    """
    check_folder_target(path.parent)
    if path.is_dir():
        raise _failure(errno.EISDIR, path)


def _failure(code: int, path: Path) -> InputError:
    failure = disk_error(OSError(code, ""), path)
    assert failure is not None
    return failure
