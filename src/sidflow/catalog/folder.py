"""The one way to raw files: only what lies inside the data folder is ever opened, links out of it included."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from sidflow.contracts import trace
from sidflow.contracts.errors import InputError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class Folder:
    """A data folder that its names cannot lead out of."""

    def __init__(self, path: Path) -> None:
        """Take a folder, or the folder of a file."""
        self.root = (path if path.is_dir() else path.parent).resolve()

    def inside(self, path: Path) -> bool:
        """Return whether `path`, links followed, lies in the folder."""
        return path.resolve().is_relative_to(self.root)

    def file(self, name: str, why: str) -> Path:
        """Return the file `name` of the folder.

        Raises:
            InputError: it is absent or leads out of the folder.
        """
        path = self.maybe(name)
        if path is None:
            raise InputError(
                str(self.root),
                expected=f"a file {name} ({why})",
                found=f"no such file among {self._listing()}",
                remedy="point ingest.path at the folder that holds it",
            )
        return path

    def maybe(self, name: str) -> Path | None:
        """Return the file or folder `name`, or None where there is none.

        Raises:
            InputError: it leads out of the folder.
        """
        path = self.root / name
        if not self.inside(path):
            raise InputError(
                str(self.root), expected="a name inside of the data folder", found=name, remedy="move the data into it"
            )
        return path if path.exists() else None

    def find(self, pattern: str) -> list[Path]:
        """Return the files right in the folder that match `pattern`, sorted by name; an empty one matches none.

        Raises:
            InputError: the pattern names other folders, or is none.
        """
        if not pattern:
            return []
        try:
            if "/" in pattern or "\\" in pattern or ".." in pattern:
                raise ValueError
            return sorted(path for path in self.root.glob(pattern) if path.is_file() and self.inside(path))
        except ValueError as error:
            raise InputError(
                str(self.root), expected="a pattern of file names", found=pattern, remedy="leave folders out of it"
            ) from error

    def pictures(self, name: str, *, needed: bool = False) -> dict[str, Path]:
        """Return the picture files of the subfolder `name` by stem: none where there is no such folder.

        Raises:
            InputError: the name leads out of the folder, or there are none and they are `needed`.
        """
        folder = self.maybe(name) if name else None
        listed = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        found = [path for path in listed if path.suffix.lower() in PICTURE_SUFFIXES and self.inside(path)]
        if needed and not found:
            raise InputError(
                str(self.root),
                expected=f"a folder `{name}` of pictures ({', '.join(PICTURE_SUFFIXES)})",
                found="none in it" if folder else f"no such folder among {self._listing()}",
                remedy="name theirs under `ingest` in params.yaml, or empty that name",
            )
        return {path.stem: path for path in reversed(found)}

    def _listing(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())[:12]


def open_text(path: Path) -> io.TextIOBase:
    """Open a text file, gzipped or not, as UTF-8; what is none is replaced, not fatal."""
    trace.note_read(path)
    binary = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace")  # type: ignore[arg-type]
