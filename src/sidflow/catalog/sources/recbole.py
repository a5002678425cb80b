"""Source `recbole`: RecBole's atomic files, `.inter` of interactions and `.item` of items.

Fields are separated by tabs, and the header names each with its type: token (one value), token_seq (several, between
commas where any row has one, else between blanks), float or float_seq. The types decide how items' fields are read;
keys and times are named in params.
Source: https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from sidflow.catalog.keys import require_keys
from sidflow.catalog.params import IngestParams, RecboleParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, collect_table, refuse_no_rows, scan_table
from sidflow.catalog.times import TimeColumn, whole_seconds
from sidflow.core.errors import InputError

TYPES = ("token", "token_seq", "float", "float_seq")
TITLES = ("title", "movie_title", "item_name", "name")  # fields that hold it where params name none
CATEGORIES = ("categories", "category", "class", "genre", "genres")


def read_recbole(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of atomic files, with items and pictures where the folder has them."""
    folder, settings = DataFolder(path), params.recbole
    interactions = path if path.is_file() else _one_file(folder, settings.interactions, "interactions")
    assert interactions is not None
    items = _one_file(folder, settings.items, "items", required=set_by_user(settings, "items"))
    dropped: Counter[str] = Counter()
    return RawCatalog(
        events=_events(interactions, params, dropped),
        items=_items(items, params, dropped) if items else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images"), counts=dropped),
        has_timestamps=bool(settings.timestamp),
        dropped=dropped,
    )


def _one_file(folder: DataFolder, pattern: str, param: str, *, required: bool = True) -> Path | None:
    files = folder.match_files(pattern)
    if len(files) > 1 or (required and not files):
        raise InputError(
            str(folder.root),
            expected=f"one file `{pattern}` of {param}",
            found=f"{[path.name for path in files]}" if files else "none",
            remedy=f"name it in ingest.recbole.{param}",
        )
    return files[0] if files else None


def _open(path: Path, params: IngestParams, dropped: Counter[str]) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Return the rows under the fields' names, and the type of each field.

    Raises:
        InputError: the header has a field without one of the types, or one name twice.
    """
    lazy = scan_table(path, params.encoding, dropped, separator="\t")
    header = lazy.collect_schema().names()
    types = {name.rpartition(":")[0]: name.rpartition(":")[2] for name in header}
    wrong = [name for name in header if name.rpartition(":")[2] not in TYPES or not name.rpartition(":")[0]]
    if wrong:
        raise InputError(
            str(path),
            expected=f"a header of name:type between tabs, type being one of {', '.join(TYPES)}",
            found=f"`{wrong[0]}`",
            count=len(wrong),
            remedy="give RecBole's atomic file, or set ingest.source: files for a plain table",
        )
    names = [name.rpartition(":")[0] for name in header]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            str(path),
            expected="fields with different names",
            found=f"`{repeated[0]}` as {', '.join(name for name in header if name.rpartition(':')[0] == repeated[0])}",
            count=len(repeated),
            remedy="keep one of them, or rename the others",
        )
    return lazy.rename(dict(zip(header, names, strict=True))), types


def _require_fields(path: Path, fields: dict[str, str], types: dict[str, str]) -> None:
    """Check that the file has the named fields, each with one value.

    Raises:
        InputError: one is absent or a list.
    """
    for role, name in fields.items():
        if types.get(name) not in ("token", "float"):
            lists = name in types or any(kind == "token_seq" for kind in types.values())
            raise InputError(
                str(path),
                expected=f"a field `{name}` with one value, for ingest.recbole.{role}",
                found=", ".join(f"{field}:{kind}" for field, kind in list(types.items())[:12]),
                remedy=f"set ingest.recbole.{role} to its name"
                + ("; histories in one field are no interactions: give the file from before" if lists else ""),
            )


def _events(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    settings = params.recbole
    lazy, types = _open(path, params, dropped)
    fields = {"user": settings.user, "item": settings.item}
    if settings.timestamp:
        fields["timestamp"] = settings.timestamp
    rated = settings.min_rating > 0
    if rated:
        fields["rating"] = settings.rating
    _require_fields(path, fields, types)
    frame = collect_table(lazy.select(pl.col(name).alias(role) for role, name in fields.items()), path)
    for role in ("user", "item"):
        keys, repaired = require_keys(frame[role], str(path), lambda row: f"row {row + 1}", name=fields[role])
        frame = frame.with_columns(keys.alias(role))
        dropped["keys_repaired"] += repaired
    if settings.timestamp:
        remedy = "set ingest.recbole.timestamp_unit: UNIT"
        times = TimeColumn(frame["timestamp"], settings.timestamp_unit, path, settings.timestamp, remedy)
        frame = frame.with_columns(whole_seconds(times).alias("timestamp"))
    else:
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("timestamp"))
    if rated:
        frame = _rated(frame, path, settings, dropped)
    return frame.select("user", "item", "timestamp")


def _rated(frame: pl.DataFrame, path: Path, settings: RecboleParams, dropped: Counter[str]) -> pl.DataFrame:
    """Return the events whose rating is at least `min_rating`.

    Raises:
        InputError: a rating is no number.
    """
    ratings = frame["rating"].cast(pl.Float64, strict=False)
    bad = ~(ratings.is_not_null() & ratings.is_finite().fill_null(False))
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            str(path),
            expected=f"a number in `{settings.rating}`",
            found="empty or other values",
            count=int(bad.sum()),
            example=f"row {row + 1}: {frame['rating'][row]}",
            remedy="repair or remove these rows, or set ingest.recbole.min_rating: 0",
        )
    kept = frame.filter(ratings >= settings.min_rating)
    dropped["ratings_too_low"] += frame.height - kept.height
    return kept


def _items(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    settings, most = params.recbole, params.max_text
    lazy, types = _open(path, params, dropped)
    _require_fields(path, {"item": settings.item}, types)
    title = _field(path, settings.title, TITLES, types, "title")
    categories = _field(path, settings.categories, CATEGORIES, types, "categories")
    frame = collect_table(lazy, path)
    refuse_no_rows(path, frame.height, "set ingest.recbole.items to empty")
    keys, repaired = require_keys(frame[settings.item], str(path), lambda row: f"row {row + 1}", name=settings.item)
    dropped["keys_repaired"] += repaired
    named = {settings.item, title, categories, "description", "brand"}
    others = [name for name, kind in types.items() if name not in named and kind in ("token", "token_seq")]
    separator = _separator(frame, categories, types) if categories else ""
    texts = []
    for key, row in zip(keys.cast(pl.String), frame.iter_rows(named=True), strict=True):
        texts.append(
            {
                "item_key": key,
                "title": clean_text(row.get(title), most),
                "description": clean_text(row.get("description"), most),
                "brand": clean_text(row.get("brand"), most),
                "categories": clean_categories(row.get(categories) or "", 200, separator),
                "attributes": clean_attributes({name: row[name] for name in others}, most),
            }
        )
    return items_frame_of_rows(texts)


def _separator(frame: pl.DataFrame, field: str, types: dict[str, str]) -> str:
    """Return what stands between the values of a field, the same in all rows; nothing where each row has one value."""
    if types[field] not in ("token_seq", "float_seq"):
        return ""
    return "," if frame[field].str.contains(",", literal=True).any() else " "


def _field(path: Path, name: str, usual: tuple[str, ...], types: dict[str, str], param: str) -> str:
    """Return the field that params name, or the first of the usual ones, or nothing."""
    if name and name not in types:
        raise InputError(
            str(path),
            expected=f"a field `{name}` for ingest.recbole.{param}",
            found=f"{list(types)[:20]}",
            remedy=f"set ingest.recbole.{param} to its name, or to empty",
        )
    return name or next((field for field in usual if field in types), "")
