"""Source `files`: the user's own CSV or Parquet, with params that map its columns to the catalogue's."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sidflow.catalog.params import FilesParams, IngestParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, collect_table, scan_table
from sidflow.core.errors import InputError

TEXT_FIELDS = ("title", "description", "brand", "categories")
UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_YEAR_BOUNDS = (-62_135_596_800, 253_402_300_799)  # seconds of the years 1 to 9999; a value outside has another unit
_EXACT_FLOAT_BOUND = 2**53  # below it floats represent whole numbers exactly
_REPAIR_ROWS = "repair or remove these rows"


def read_tables(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of a table of interactions, with items and pictures where there are any."""
    folder, settings = DataFolder(path), params.files
    interactions = path if path.is_file() else _single_file(folder, settings.interactions, "interactions")
    assert interactions is not None
    items = _single_file(folder, settings.items, "items", required=set_by_user(settings, "items"))
    return RawCatalog(
        events=_events(interactions, settings),
        items=_items(items, settings, params.max_text) if items else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images")),
        has_timestamps=bool(settings.timestamp),
    )


def _single_file(folder: DataFolder, pattern: str, param: str, *, required: bool = True) -> Path | None:
    """Return the one file that matches `pattern`, or None where there is none and it is not `required`."""
    files = folder.match_files(pattern)
    if len(files) > 1 or (required and not files):
        raise InputError(
            str(folder.root),
            expected=f"one file `{pattern}` of {param}" if pattern else f"the name of the file of {param}",
            found=f"{[path.name for path in files]}" if files else "none",
            remedy=f"name it in ingest.files.{param}",
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


def _events(path: Path, settings: FilesParams) -> pl.DataFrame:
    lazy = scan_table(path)
    columns_by_role = {"user": settings.user, "item": settings.item}
    if settings.timestamp:
        columns_by_role["timestamp"] = settings.timestamp
    _check_columns(path, lazy, columns_by_role)
    parts = [pl.col(name).alias(role) for role, name in columns_by_role.items()]
    columns = [lazy.select(part) for part in parts] if path.suffix == ".parquet" else [lazy.select(parts)]
    frame = pl.concat([_as_categoricals(collect_table(column, path)) for column in columns], how="horizontal")
    for role, name in columns_by_role.items():
        _check_rows(path, name, frame[role], frame[role].is_not_null(), "a value in every row", _REPAIR_ROWS)
    frame = frame.with_columns(_keys(frame[role], path, columns_by_role[role]) for role in ("user", "item"))
    if not settings.timestamp:
        row_number = pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("timestamp")
        return frame.with_columns(row_number)
    return frame.with_columns(_seconds(frame["timestamp"], settings, path))


def _as_categoricals(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with text keys as categoricals, which take four bytes an event."""
    return frame.with_columns(
        pl.col(name).cast(pl.Categorical)
        for name in ("user", "item")
        if name in frame.columns and frame.schema[name] == pl.String
    )


def _check_rows(path: Path, name: str, column: pl.Series, good: pl.Series, expected: str, remedy: str) -> None:
    """Check that every row of `column` is `good`; null counts as bad.

    Raises:
        InputError: some rows are bad.
    """
    bad = ~good.fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            str(path),
            expected=f"{expected} of `{name}`",
            found="other values",
            count=int(bad.sum()),
            example=" ".join(f"row {row + 1}: {column[row]}".split()),
            remedy=remedy,
        )


def _keys(column: pl.Series, path: Path, name: str) -> pl.Series:
    """Return keys as text or integers; whole floats become integers (tables with gaps often have them)."""
    dtype = column.dtype
    if dtype.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < _EXACT_FLOAT_BOUND)
        _check_rows(path, name, column, whole, "a whole number in every row", _REPAIR_ROWS)
        return column.cast(pl.Int64)
    if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)):
        no_rows = pl.repeat(False, len(column), eager=True)
        _check_rows(path, name, column, no_rows, "text or whole numbers in the rows", "convert the column")
    return column


def _seconds(column: pl.Series, settings: FilesParams, path: Path) -> pl.Series:
    """Return times as whole seconds UTC; a column has numbers in the unit of params, dates, or ISO text."""
    name = settings.timestamp
    seconds = _whole_seconds(column, UNITS_PER_SECOND[settings.timestamp_unit])
    remedy = "convert the column, or set ingest.files.timestamp to another (empty: the file's order)"
    _check_rows(path, name, column, seconds.is_not_null(), "a number, date or ISO time in every row", remedy)
    in_range = seconds.cast(pl.Float64).is_between(*_YEAR_BOUNDS)
    remedy = "set ingest.files.timestamp_unit, or repair these rows"
    _check_rows(path, name, column, in_range, "years 1 to 9999", remedy)
    return seconds.cast(pl.Int64)


def _whole_seconds(column: pl.Series, per_second: int) -> pl.Series:
    """Return whole seconds as Int64 or Float64; null where a value is not a time."""
    kind = column.dtype
    if kind.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    if kind == pl.String:
        return _parse_time_texts(column, per_second)
    if kind.is_integer():
        return column // per_second
    if kind.is_float():
        return (pl.select(pl.when(column.is_finite()).then(column)).to_series() / per_second).floor()
    return pl.Series([None] * len(column), dtype=pl.Int64)


def _parse_time_texts(column: pl.Series, per_second: int) -> pl.Series:
    """Return whole seconds of a text column: of numbers where the first value is one, else of ISO times."""
    for kind in (pl.Int64, pl.Float64):
        numbers = column.cast(kind, strict=False)
        if not numbers.null_count() or (kind == pl.Float64 and numbers[0] is not None):
            return _whole_seconds(numbers, per_second)
    return column.str.to_datetime(time_unit="us", strict=False, time_zone="UTC").dt.epoch("s")


def _items(path: Path, settings: FilesParams, max_characters: int) -> pl.DataFrame:
    lazy = scan_table(path)
    mapped = {field: getattr(settings, field) for field in TEXT_FIELDS if getattr(settings, field)}
    _check_columns(path, lazy, {"item": settings.item} | mapped)
    for name in settings.attributes:
        _check_columns(path, lazy, {"attributes": name})
    frame = collect_table(lazy, path)
    item = frame[settings.item]
    _check_rows(path, settings.item, item, item.is_not_null(), "a value in every row", _REPAIR_ROWS)
    keys = _keys(item, path, settings.item).cast(pl.String)
    columns = {field: mapped.get(field, field) for field in TEXT_FIELDS}
    rows = frame.iter_rows(named=True)
    texts = [
        {
            "item_key": key,
            **{name: clean_text(row.get(columns[name]), max_characters) for name in ("title", "description", "brand")},
            "categories": clean_categories(row.get(columns["categories"]) or "", 200, settings.category_separator),
            "attributes": clean_attributes({name: row[name] for name in settings.attributes}, max_characters),
        }
        for key, row in zip(keys, rows, strict=True)
    ]
    return items_frame_of_rows(texts)
