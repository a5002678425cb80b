"""CSV and Parquet tables of sources: opened by suffix, with errors that name the column and the row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sidflow.contracts.errors import InputError
from sidflow.contracts.trace import note_read

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


def scan_table(path: Path) -> pl.LazyFrame:
    """Return a table, opened lazily by its suffix; every CSV column is text.

    Raises:
        InputError: the suffix is unknown, or the file is unreadable.
    """
    note_read(path)
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            lazy = pl.scan_parquet(path)
        elif name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
            separator = "\t" if ".tsv" in name else ","
            lazy = pl.scan_csv(path, separator=separator, infer_schema=False, encoding="utf8-lossy")
        else:
            raise InputError(
                str(path), expected=f"one of {SUFFIXES}", found=path.suffix or "no suffix", remedy="convert it"
            )
        lazy.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error
    return lazy


def collect_table(lazy: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Return the rows of a table that `scan_table` opened.

    Raises:
        InputError: a row has more fields than the header, a quote is not closed, and the like.
    """
    try:
        return lazy.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    message = " ".join(str(error).split("\n\n")[0].split())
    return InputError(
        str(path),
        expected="a readable table, each row with the header's fields",
        found=message[:200],
        remedy="repair or convert the file",
    )


def read_table(path: Path, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Return a table whose `columns` are cast to their types; it may have further columns.

    Raises:
        InputError: a column is absent, or a value is empty or not of its type.
    """
    lazy = scan_table(path)
    names = lazy.collect_schema().names()
    absent = [name for name in columns if name not in names]
    if absent:
        raise InputError(
            str(path), expected=f"columns {list(columns)}", found=f"{names[:20]}", remedy="check the header"
        )
    frame = collect_table(lazy, path)
    for name, kind in columns.items():
        values = frame[name].cast(kind, strict=False)
        bad = values.is_null()
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
