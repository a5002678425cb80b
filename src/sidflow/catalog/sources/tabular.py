"""Source `files`: CSV or Parquet of the user's own, with a mapping from their columns to ours."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sidflow.catalog import cleaning
from sidflow.catalog.folder import Folder
from sidflow.catalog.params import FilesParams, IngestParams, named
from sidflow.catalog.raw import RawCatalog, words
from sidflow.catalog.sources.columns import collect, scan
from sidflow.contracts.errors import InputError

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_YEARS = (-62_135_596_800, 253_402_300_799)  # seconds of the years 1 to 9999: what lies outside is in another unit
_EXACT = 2**53  # whole floats below are the numbers that were meant
_MEND = "repair or remove these rows"


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Read interactions, and items and pictures where there are any."""
    folder, own = Folder(path), params.files
    interactions = path if path.is_file() else _one(folder, own.interactions, "interactions")
    items = _one(folder, own.items, "items", needed=named(own, "items"))
    return RawCatalog(
        events=_events(interactions, own),
        items=_items(items, own, params.max_text) if items else words({"item_key": pl.Series([], dtype=pl.String)}),
        pictures=folder.pictures(own.images, needed=named(own, "images")),
        clock=bool(own.timestamp),
    )


def _one(folder: Folder, pattern: str, what: str, *, needed: bool = True) -> Path:
    found = folder.find(pattern)
    if len(found) > 1 or (needed and not found):
        raise InputError(
            str(folder.root),
            expected=f"one file `{pattern}` of {what}" if pattern else f"a name of the file of {what}",
            found=f"{[path.name for path in found]}" if found else "none",
            remedy=f"name it in ingest.files.{what}",
        )
    return found[0] if found else None  # type: ignore[return-value]


def _need(path: Path, lazy: pl.LazyFrame, wanted: dict[str, str]) -> None:
    """Raise where a mapped column is not in the file."""
    found = lazy.collect_schema().names()
    for role, name in wanted.items():
        if name not in found:
            raise InputError(
                str(path),
                expected=f"a column `{name}` for ingest.files.{role}",
                found=f"columns {found[:30]}",
                remedy=f"set ingest.files.{role} to the column that has it",
            )


def _events(path: Path, own: FilesParams) -> pl.DataFrame:
    lazy = scan(path)
    wanted = {"user": own.user, "item": own.item} | ({"timestamp": own.timestamp} if own.timestamp else {})
    _need(path, lazy, wanted)
    parts = [pl.col(name).alias(role) for role, name in wanted.items()]
    columns = [lazy.select(part) for part in parts] if path.suffix == ".parquet" else [lazy.select(parts)]
    frame = pl.concat([_compact(collect(column, path)) for column in columns], how="horizontal")
    for role, name in wanted.items():
        _all_good(path, name, frame[role], frame[role].is_not_null(), "a value in every row", _MEND)
    frame = frame.with_columns(_keys(frame[role], path, wanted[role]) for role in ("user", "item"))
    if not own.timestamp:
        order = pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("timestamp")
        return frame.with_columns(order)
    return frame.with_columns(_seconds(frame["timestamp"], own, path))


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Return keys as categoricals: four bytes an event, whatever their length."""
    return frame.with_columns(
        pl.col(name).cast(pl.Categorical)
        for name in ("user", "item")
        if name in frame.columns and frame.schema[name] == pl.String
    )


def _all_good(path: Path, name: str, column: pl.Series, good: pl.Series, expected: str, remedy: str) -> None:
    """Raise where a row of `column` is not `good`; null counts as bad."""
    bad = ~good.fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            str(path),
            expected=f"{expected} of `{name}`",
            found="others",
            count=int(bad.sum()),
            example=" ".join(f"row {row + 1}: {column[row]}".split()),
            remedy=remedy,
        )


def _keys(column: pl.Series, path: Path, name: str) -> pl.Series:
    """Return keys as text or integers; whole floats, which tables with gaps are often saved as, become integers."""
    kind = column.dtype
    if kind.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < _EXACT)
        _all_good(path, name, column, whole, "a whole number in every row", _MEND)
        return column.cast(pl.Int64)
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)):
        none = pl.repeat(False, len(column), eager=True)
        _all_good(path, name, column, none, "text or whole numbers in the rows", "convert the column")
    return column


def _seconds(column: pl.Series, own: FilesParams, path: Path) -> pl.Series:
    """Return times as whole seconds UTC: numbers in the unit that params name, dates, or ISO text."""
    remedy = "convert the column, or set ingest.files.timestamp to another (empty: the file's order)"
    seconds = _read_times(column, PER_SECOND[own.timestamp_unit])
    _all_good(path, own.timestamp, column, seconds.is_not_null(), "a number, date or ISO time in every row", remedy)
    inside = seconds.cast(pl.Float64).is_between(*_YEARS)
    _all_good(path, own.timestamp, column, inside, "years 1 to 9999", "set ingest.files.timestamp_unit, or mend them")
    return seconds.cast(pl.Int64)


def _read_times(column: pl.Series, per_second: int) -> pl.Series:
    """Return whole seconds as Int64 or Float64, null where a value is no time."""
    kind = column.dtype
    if kind.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    if kind == pl.String:
        return _read_text(column, per_second)
    if kind.is_integer():
        return column // per_second
    if kind.is_float():
        return (pl.select(pl.when(column.is_finite()).then(column)).to_series() / per_second).floor()
    return pl.Series([None] * len(column), dtype=pl.Int64)


def _read_text(column: pl.Series, per_second: int) -> pl.Series:
    """Read a column of numbers as such where its first value is one, else as ISO times."""
    for kind in (pl.Int64, pl.Float64):
        numbers = column.cast(kind, strict=False)
        if not numbers.null_count() or (kind == pl.Float64 and numbers[0] is not None):
            return _read_times(numbers, per_second)
    return column.str.to_datetime(time_unit="us", strict=False, time_zone="UTC").dt.epoch("s")


def _items(path: Path, own: FilesParams, most: int) -> pl.DataFrame:
    lazy = scan(path)
    said = {name: getattr(own, name) for name in ("title", "description", "brand", "categories") if getattr(own, name)}
    _need(path, lazy, {"item": own.item} | said)
    for name in own.attributes:
        _need(path, lazy, {"attributes": name})
    frame = collect(lazy, path)
    _all_good(path, own.item, frame[own.item], frame[own.item].is_not_null(), "a value in every row", _MEND)
    keys = _keys(frame[own.item], path, own.item).cast(pl.String)
    column = {name: said.get(name, name) for name in ("title", "description", "brand", "categories")}
    rows = frame.iter_rows(named=True)
    made = [
        {
            "item_key": key,
            **{name: cleaning.text(row.get(column[name]), most) for name in ("title", "description", "brand")},
            "categories": cleaning.labels(row.get(column["categories"]) or "", 200, own.category_separator),
            "attributes": cleaning.attributes({name: row[name] for name in own.attributes}, most),
        }
        for key, row in zip(keys, rows, strict=True)
    ]
    return words({name: [row[name] for row in made] for name in made[0]}) if made else words({"item_key": []})
