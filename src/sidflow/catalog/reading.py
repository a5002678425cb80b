"""Reads raw files: paths inside the data folder, CSV and Parquet tables."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from sidflow.catalog.csv_rows import check_csv
from sidflow.catalog.keys import clean_keys
from sidflow.core.errors import InputError
from sidflow.core.files import note_read

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABLE_SUFFIXES = (*CSV_SUFFIXES, ".parquet")
UNREADABLE = (pl.exceptions.PolarsError, OSError, ValueError, OverflowError, RuntimeError)  # a date of year 29349
SLICE_ROWS = 50_000  # of a table that are Python values at a time
PANIC = "PanicException"  # of pyo3; a subclass of BaseException that each library has to itself

# Without it polars panics on times with a fixed offset (`+05:30`), which pandas and Arrow write.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")


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
        if path.is_dir():
            _refuse_folder(path)
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

        The name of a file is itself a pattern for that file alone, though it has brackets or other signs of patterns.

        Raises:
            InputError: the pattern names another folder or is not a valid one, or a file is a link out of the folder.
        """
        if not pattern:
            return []
        try:
            if "/" in pattern or "\\" in pattern or pattern == "..":
                raise ValueError
            named = self.root / pattern
            paths = [named] if named.exists() else list(self.root.glob(pattern))
        except ValueError as error:
            raise InputError(
                str(self.root), expected="a pattern of file names", found=pattern, remedy="leave folders out of it"
            ) from error
        files = sorted(path for path in paths if path.is_file())
        self._refuse_links_out(files)
        if paths and not files:
            _refuse_folder(paths[0])
        return files

    def subfolder(self, name: str) -> DataFolder | None:
        """Return the folder `name` in this one, or None where there is none.

        Raises:
            InputError: it is a link out of the folder.
        """
        path = self.optional_path(name)
        return DataFolder(path) if path is not None and path.is_dir() else None

    def _refuse_links_out(self, paths: list[Path]) -> None:
        """Check that files with links resolved are in the folder.

        Raises:
            InputError: one is not.
        """
        outside = [path for path in paths if not self.contains(path)]
        if outside:
            raise InputError(
                str(self.root),
                expected="files inside of the data folder",
                found="a link that leads out of it",
                count=len(outside),
                example=f"{outside[0].relative_to(self.root)} -> {outside[0].resolve()}",
                remedy="put the file itself there, or remove the link",
            )

    def picture_files(
        self, name: str, *, required: bool = False, counts: Counter[str] | None = None
    ) -> dict[str, Path]:
        """Return the picture files of the subfolder `name` by item key, the first of each; empty without such a folder.

        Args:
            name: of the folder.
            required: pictures must be there.
            counts: gets the number of further pictures of an item.

        Raises:
            InputError: the name or a picture leads out of the folder, or pictures are `required` and there are none.
        """
        folder = self.optional_path(name) if name else None
        paths = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        pictures = [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES]
        self._refuse_links_out(pictures)
        if required and not pictures:
            raise InputError(
                str(self.root),
                expected=f"a folder `{name}` of pictures ({', '.join(PICTURE_SUFFIXES)})",
                found="none in it" if folder else f"no such folder among {self._listing()}",
                remedy="set its name under `ingest` in params.yaml, or set it to empty",
            )
        keys = clean_keys(pl.Series([path.stem for path in pictures], dtype=pl.String)).keys
        by_key = dict(zip(reversed(keys.to_list()), reversed(pictures), strict=True))
        if counts is not None:
            counts["pictures_of_same_item"] += len(pictures) - len(by_key)
        return by_key

    def _listing(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())[:12]


def _refuse_folder(path: Path) -> NoReturn:
    """Refuse a folder that is named like a file.

    Raises:
        InputError: always.
    """
    raise InputError(
        str(path),
        expected="a file",
        found="a folder of that name",
        remedy="name a file inside it, or give its path with --data",
    )


def scan_table(
    path: Path, encoding: str = "utf-8", counts: Counter[str] | None = None, separator: str = ""
) -> pl.LazyFrame:
    """Return a table, opened lazily by its suffix; every CSV column is text, and its rows are checked.

    Args:
        path: of the file; no character of it is read as a pattern.
        encoding: of a CSV file without a byte order mark.
        counts: gets the number of rows whose quotes are part of the text.
        separator: of a text table with a suffix of its own; empty: the suffix says it.

    Raises:
        InputError: the suffix is unknown, the file is unreadable or has another separator, or a row hasn't the
            header's fields.
    """
    note_read(path)
    name = path.name.lower()
    with readable_table(path):
        if name.endswith(".parquet"):
            lazy = pl.scan_parquet(path, glob=False)
        elif separator or name.endswith(CSV_SUFFIXES):
            separator = separator or ("\t" if ".tsv" in name else ",")
            checked = check_csv(path, separator, encoding)
            if counts is not None and checked.stray_quotes:
                counts["rows_with_quotes_in_text"] += checked.stray_quotes
            lazy = pl.scan_csv(checked.source, separator=separator, infer_schema=False, glob=False)
        else:
            raise InputError(
                str(path), expected=f"one of {TABLE_SUFFIXES}", found=path.suffix or "no suffix", remedy="convert it"
            )
        names = lazy.collect_schema().names()
    if separator and len(names) == 1:
        _refuse_separator(path, names[0], separator)
    return lazy


def _refuse_separator(path: Path, header: str, separator: str) -> None:
    """Check that a header of one column does not hold several between other signs.

    Raises:
        InputError: it does.
    """
    other = next((sign for sign in ("\t", ";", "|", ",") if sign != separator and sign in header), None)
    if other is not None:
        words = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
        suffix = {"\t": ".tsv", ",": ".csv"}.get(other)
        rename = f"rename it to {path.stem.split('.')[0]}{suffix}, or " if suffix else ""
        raise InputError(
            str(path),
            expected=f"{words[separator]} between the columns, as the name says",
            found=f"{words[other]} (`{other}`)" if other != "\t" else "tabs",
            example=header[:60],
            remedy=f"{rename}save it with {words[separator]}",
        )


def collect_table(lazy: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Return the rows of a table that `scan_table` opened.

    Raises:
        InputError: a row has more fields than the header, a quote is not closed, and the like.
    """
    with readable_table(path):
        return lazy.collect()


def refuse_no_rows(path: Path, rows: int, param: str) -> None:
    """Check that a file of items has rows.

    Raises:
        InputError: it has none.
    """
    if not rows:
        raise InputError(str(path), expected="rows of items", found="none", remedy=f"give the whole file, or {param}")


def table_rows(frame: pl.DataFrame, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table of the file `path` as Python values.

    Raises:
        InputError: a value has no Python value, such as a date of the year 29349.
    """
    for part in frame.iter_slices(SLICE_ROWS):
        with readable_table(path, "values that Python can hold", "repair these values, or leave the column out"):
            rows = part.rows(named=True)
        yield from rows


@contextmanager
def readable_table(
    path: Path,
    expected: str = "a readable table, each row with the header's fields",
    remedy: str = "repair or convert the file",
) -> Iterator[None]:
    """Raise what polars says of a damaged table as an `InputError`; its panics too, without Rust's report of them.

    That report goes to the file descriptor of standard error, which therefore leads nowhere while the block runs.

    Raises:
        InputError: the table cannot be read.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, UNREADABLE) and type(error).__name__ != PANIC:
            raise
        message = " ".join(str(error).split("\n\n")[0].split())[:200]
        raise InputError(str(path), expected=expected, found=message, remedy=remedy) from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def read_table(
    path: Path,
    columns: Mapping[str, type[pl.DataType]],
    encoding: str = "utf-8",
    counts: Counter[str] | None = None,
) -> pl.DataFrame:
    """Return a table whose `columns` are cast to their types; it may have further columns. See `scan_table`.

    Raises:
        InputError: a column is absent, or a value is empty, not of its type, or no number.
    """
    lazy = scan_table(path, encoding, counts)
    names = lazy.collect_schema().names()
    absent = [name for name in columns if name not in names]
    if absent:
        raise InputError(
            str(path), expected=f"columns {list(columns)}", found=f"{names[:20]}", remedy="check the header"
        )
    frame = collect_table(lazy, path)
    for name, kind in columns.items():
        values = frame[name].cast(kind, strict=False)
        bad = values.is_null() | ~values.is_finite() if values.dtype.is_float() else values.is_null()
        bad = bad.fill_null(True)
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise InputError(
                str(path),
                expected=f"{kind.__name__} in column {name}",
                found="empty or other values",
                count=int(bad.sum()),
                example=f"row {row + 1}: {frame[name][row]!r}",
                remedy="repair or remove these rows",
            )
        frame = frame.with_columns(values)
    return frame
