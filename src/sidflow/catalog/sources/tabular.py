"""Source `files`: CSV or Parquet of the user's own, with a mapping from their columns to ours."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sidflow.catalog import cleaning
from sidflow.catalog.folder import Folder
from sidflow.catalog.params import FilesParams, IngestParams
from sidflow.catalog.raw import RawCatalog, words
from sidflow.catalog.sources.columns import scan
from sidflow.contracts.errors import InputError

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Read interactions, and items and pictures where there are any."""
    folder, own = Folder(path), params.files
    interactions = path if path.is_file() else _one(folder, own.interactions, "interactions")
    items = _one(folder, own.items, "items", needed=False)
    return RawCatalog(
        events=_events(interactions, own),
        items=_items(items, own, params.max_text) if items else words({"item_key": pl.Series([], dtype=pl.String)}),
        pictures=folder.pictures(own.images),
        clock=bool(own.timestamp),
    )


def _one(folder: Folder, pattern: str, what: str, *, needed: bool = True) -> Path:
    found = folder.find(pattern)
    if len(found) > 1 or (needed and not found):
        raise InputError(
            str(folder.root),
            expected=f"one file `{pattern}` of {what}",
            found=f"{[path.name for path in found]}",
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
    frame = pl.concat([_compact(column.collect()) for column in columns], how="horizontal")
    for role in wanted:
        bad = frame[role].is_null()
        if bad.any():
            raise InputError(
                str(path),
                expected=f"a value in every row of `{wanted[role]}`",
                found="empty ones",
                count=int(bad.sum()),
                example=f"row {int(bad.arg_max() or 0) + 1}",
                remedy="repair or remove these rows",
            )
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


def _seconds(column: pl.Series, own: FilesParams, path: Path) -> pl.Series:
    """Return times as whole seconds UTC: numbers in the unit that params name, dates, or ISO text."""
    kind = column.dtype
    if kind.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s").cast(pl.Int64)
    if kind == pl.String:
        number = column.cast(pl.Int64, strict=False)
        number = column.cast(pl.Float64, strict=False) if number.null_count() else number
        if number.null_count():
            parsed = column.str.to_datetime(time_unit="us", strict=False, time_zone="UTC")
            _complete(parsed, column, own, path)
            return parsed.dt.epoch("s").cast(pl.Int64)
        column = number
    elif not kind.is_numeric():
        _complete(pl.Series([None] * len(column)), column, own, path)
    if column.dtype.is_float():
        _complete(column.is_finite().replace(False, None), column, own, path)
        return (column / PER_SECOND[own.timestamp_unit]).floor().cast(pl.Int64)
    return column.cast(pl.Int64) // PER_SECOND[own.timestamp_unit]


def _complete(parsed: pl.Series, column: pl.Series, own: FilesParams, path: Path) -> None:
    bad = parsed.is_null()
    if bad.any():
        raise InputError(
            str(path),
            expected=f"numbers, dates or ISO times in `{own.timestamp}`",
            found="other values",
            count=int(bad.sum()),
            example=str(column[int(bad.arg_max() or 0)]),
            remedy="convert the column, or set ingest.files.timestamp to another (empty: the file's order)",
        )


def _items(path: Path, own: FilesParams, most: int) -> pl.DataFrame:
    lazy = scan(path)
    said = {name: getattr(own, name) for name in ("title", "description", "brand", "categories") if getattr(own, name)}
    _need(path, lazy, {"item": own.item} | said)
    for name in own.attributes:
        _need(path, lazy, {"attributes": name})
    frame = lazy.collect()
    column = {name: said.get(name, name) for name in ("title", "description", "brand", "categories")}
    rows = frame.iter_rows(named=True)
    made = [
        {
            "item_key": str(row[own.item]),
            **{name: cleaning.text(row.get(column[name]), most) for name in ("title", "description", "brand")},
            "categories": cleaning.labels(row.get(column["categories"]) or "", 200, own.category_separator),
            "attributes": cleaning.attributes({name: row[name] for name in own.attributes}, most),
        }
        for row in rows
    ]
    return words({name: [row[name] for row in made] for name in made[0]}) if made else words({"item_key": []})
