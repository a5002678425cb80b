"""Access to raw files: only files inside the data folder are opened; a link out of it is not followed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from sidflow.contracts.errors import InputError
from sidflow.contracts.trace import note_read

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class DataFolder:
    """A folder of raw data; no name or link leads out of it."""

    def __init__(self, path: Path) -> None:
        """Use the folder `path`, or the folder of the file `path`."""
        self.root = (path if path.is_dir() else path.parent).resolve()

    def contains(self, path: Path) -> bool:
        """Return whether `path`, with links resolved, is in the folder."""
        return path.resolve().is_relative_to(self.root)

    def require_file(self, name: str, purpose: str) -> Path:
        """Return the path of the file `name`.

        Args:
            name: relative to the folder.
            purpose: what the file is for, for the error message.

        Raises:
            InputError: the file is absent or outside the folder.
        """
        path = self.optional_path(name)
        if path is None:
            raise InputError(
                str(self.root),
                expected=f"a file {name} ({purpose})",
                found=f"no such file among {self._listing()}",
                remedy="point ingest.path at the folder that holds it",
            )
        return path

    def optional_path(self, name: str) -> Path | None:
        """Return the path of the file or folder `name`, or None where it is absent.

        Raises:
            InputError: the name leads out of the folder.
        """
        path = self.root / name
        if not self.contains(path):
            raise InputError(
                str(self.root), expected="a name inside of the data folder", found=name, remedy="move the data into it"
            )
        return path if path.exists() else None

    def match_files(self, pattern: str) -> list[Path]:
        """Return the files directly in the folder that match `pattern`, sorted by name; an empty pattern matches none.

        Raises:
            InputError: the pattern names another folder, or is not a valid pattern.
        """
        if not pattern:
            return []
        try:
            if "/" in pattern or "\\" in pattern or ".." in pattern:
                raise ValueError
            return sorted(path for path in self.root.glob(pattern) if path.is_file() and self.contains(path))
        except ValueError as error:
            raise InputError(
                str(self.root), expected="a pattern of file names", found=pattern, remedy="leave folders out of it"
            ) from error

    def picture_files(self, name: str, *, required: bool = False) -> dict[str, Path]:
        """Return the picture files of the subfolder `name` by stem; empty where there is no such folder.

        Raises:
            InputError: the name leads out of the folder, or pictures are `required` and there are none.
        """
        folder = self.optional_path(name) if name else None
        paths = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        pictures = [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES and self.contains(path)]
        if required and not pictures:
            raise InputError(
                str(self.root),
                expected=f"a folder `{name}` of pictures ({', '.join(PICTURE_SUFFIXES)})",
                found="none in it" if folder else f"no such folder among {self._listing()}",
                remedy="set its name under `ingest` in params.yaml, or set it to empty",
            )
        return {path.stem: path for path in reversed(pictures)}

    def _listing(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())[:12]


def open_text(path: Path) -> io.TextIOBase:
    """Return a text file, gzipped or not, opened as UTF-8; invalid bytes are replaced."""
    note_read(path)
    binary = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace")  # type: ignore[arg-type]
