"""Source `files`: the user's own CSV or Parquet, with params that map its columns to the catalogue's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import polars as pl

from sidflow.catalog.keys import require_keys
from sidflow.catalog.params import FilesParams, IngestParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, collect_table, refuse_no_rows, scan_table, table_rows
from sidflow.catalog.times import TimeColumn, positions, whole_seconds
from sidflow.core.errors import InputError

TEXT_FIELDS = ("title", "description", "brand", "categories")
POSITION = "position"  # unit of numbers that only order the events


def read_tables(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of a table of interactions, with items and pictures where there are any."""
    folder, settings = DataFolder(path), params.files
    interactions = path if path.is_file() else _single_file(folder, settings.interactions, "interactions")
    assert interactions is not None
    items = _single_file(folder, settings.items, "items", required=set_by_user(settings, "items"))
    dropped: Counter[str] = Counter()
    return RawCatalog(
        events=_events(interactions, params, dropped),
        items=_items(items, params, dropped) if items else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images"), counts=dropped),
        has_timestamps=bool(settings.timestamp) and settings.timestamp_unit != POSITION,
        dropped=dropped,
    )


def _single_file(folder: DataFolder, pattern: str, param: str, *, required: bool = True) -> Path | None:
    """Return the one file that matches `pattern`, or None where there is none and it is not `required`."""
    files = folder.match_files(pattern)
    if len(files) > 1 or (required and not files):
        raise InputError(
            str(folder.root),
            expected=f"one file `{pattern}` of {param}" if pattern else f"the name of the file of {param}",
            found=f"{[path.name for path in files]}" if files else "none",
            remedy=f"name it in ingest.files.{param}"
            + ("; RecBole's files are `ingest.source: recbole`" if folder.match_files("*.inter") else ""),
        )
    return files[0] if files else None


def _check_columns(path: Path, lazy: pl.LazyFrame, columns_by_role: dict[str, str]) -> None:
    """Check that the file has all mapped columns.

    Raises:
        InputError: one is absent.
    """
    names = lazy.collect_schema().names()
    for role, name in columns_by_role.items():
        if name not in names:
            raise InputError(
                str(path),
                expected=f"a column `{name}` for ingest.files.{role}",
                found=f"columns {names[:30]}",
                remedy=f"set ingest.files.{role} to the name of that column",
            )


def _events(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    settings = params.files
    lazy = scan_table(path, params.encoding, dropped)
    columns_by_role = {"user": settings.user, "item": settings.item}
    if settings.timestamp:
        columns_by_role["timestamp"] = settings.timestamp
    _check_columns(path, lazy, columns_by_role)
    parts = [pl.col(name).alias(role) for role, name in columns_by_role.items()]
    columns = [lazy.select(part) for part in parts] if path.suffix.lower() == ".parquet" else [lazy.select(parts)]
    frame = pl.concat([_as_categoricals(collect_table(column, path)) for column in columns], how="horizontal")
    frame = frame.with_columns(
        _keys(frame[role], path, columns_by_role[role], dropped).alias(role) for role in ("user", "item")
    )
    if not settings.timestamp:
        row_number = pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("timestamp")
        return frame.with_columns(row_number)
    return frame.with_columns(_times(frame["timestamp"], settings, path).alias("timestamp"))


def _as_categoricals(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with text keys as categoricals, which take four bytes an event."""
    return frame.with_columns(
        pl.col(name).cast(pl.Categorical)
        for name in ("user", "item")
        if name in frame.columns and frame.schema[name] == pl.String
    )


def _keys(column: pl.Series, path: Path, name: str, dropped: Counter[str]) -> pl.Series:
    """Return a column of keys in their one spelling, as text or integers."""
    keys, repaired = require_keys(column, str(path), lambda row: f"row {row + 1}", name=name)
    dropped["keys_repaired"] += repaired
    return keys


def _times(column: pl.Series, settings: FilesParams, path: Path) -> pl.Series:
    """Return times as whole seconds UTC, or the ranks of numbers that only order the events."""
    unit_remedy = "set ingest.files.timestamp_unit: UNIT"
    if settings.timestamp_unit == POSITION:
        return positions(TimeColumn(column, "s", path, settings.timestamp, unit_remedy))
    return whole_seconds(TimeColumn(column, settings.timestamp_unit, path, settings.timestamp, unit_remedy))


def _with_bytes_as_text(frame: pl.DataFrame, names: Collection[str], path: Path) -> pl.DataFrame:
    """Return the frame with columns of bytes as text; some programs write text so.

    Raises:
        InputError: bytes are not UTF-8.
    """
    for name in names:
        if frame.schema.get(name) != pl.Binary:
            continue
        rows = frame[name].to_list()
        bad = [row for row, value in enumerate(rows) if value is not None and not _is_utf8(value)]
        if bad:
            raise InputError(
                str(path),
                expected=f"text in UTF-8 in column `{name}`",
                found="other bytes",
                count=len(bad),
                example=f"row {bad[0] + 1}: {rows[bad[0]][:20]}",
                remedy="write the column as text, or leave it out",
            )
        frame = frame.with_columns(frame[name].cast(pl.String))
    return frame


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _items(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    settings, max_characters = params.files, params.max_text
    lazy = scan_table(path, params.encoding, dropped)
    mapped = {field: getattr(settings, field) for field in TEXT_FIELDS if getattr(settings, field)}
    _check_columns(path, lazy, {"item": settings.item} | mapped)
    for name in settings.attributes:
        _check_columns(path, lazy, {"attributes": name})
    names = lazy.collect_schema().names()
    if not settings.attributes and not any(mapped.get(field, field) in names for field in TEXT_FIELDS):
        raise InputError(
            str(path),
            expected=f"a column of {', '.join(TEXT_FIELDS)}",
            found=f"columns {names[:30]}",
            remedy="set ingest.files.title to the column of titles, or ingest.files.items to empty",
        )
    frame = _with_bytes_as_text(collect_table(lazy, path), {*mapped.values(), *TEXT_FIELDS, *settings.attributes}, path)
    refuse_no_rows(path, frame.height, "set ingest.files.items to empty")
    keys = _keys(frame[settings.item], path, settings.item, dropped).cast(pl.String)
    columns = {field: mapped.get(field, field) for field in TEXT_FIELDS}
    used = frame.select(name for name in frame.columns if name in {*columns.values(), *settings.attributes})
    texts = [
        {
            "item_key": key,
            **{name: clean_text(row.get(columns[name]), max_characters) for name in ("title", "description", "brand")},
            "categories": clean_categories(row.get(columns["categories"]) or "", 200, settings.category_separator),
            "attributes": clean_attributes({name: row[name] for name in settings.attributes}, max_characters),
        }
        for key, row in zip(keys, table_rows(used, path), strict=True)
    ]
    return items_frame_of_rows(texts)
