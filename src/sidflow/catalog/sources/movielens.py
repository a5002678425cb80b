"""Source `movielens`: ratings.csv and movies.csv of GroupLens, with details.jsonl and posters if present."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from sidflow.catalog.json_files import JsonLines
from sidflow.catalog.keys import json_key, require_keys
from sidflow.catalog.params import IngestParams, MovielensParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, read_table, refuse_no_rows
from sidflow.catalog.times import TimeColumn, whole_seconds

_YEAR = re.compile(r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|Der|Die|Das|Le|La|Les|L'|El|Los|Las|Il|Un|Une)$")
_ATTRIBUTES = ("director", "actors", "language", "country", "year")


def read_movielens(path: Path, params: IngestParams) -> RawCatalog:
    """Return the folder's content; with `require_poster` only ratings of films that have a poster."""
    folder, settings = DataFolder(path), params.movielens
    dropped: Counter[str] = Counter()
    columns = {"userId": pl.String, "movieId": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
    ratings = _read(folder.require_file("ratings.csv", "ratings"), columns, params, dropped)
    ratings = ratings.with_columns(whole_seconds(_times(folder, ratings["timestamp"])).alias("timestamp"))
    titles = folder.require_file("movies.csv", "titles and genres")
    films = _read(titles, {"movieId": pl.String, "title": pl.String}, params, dropped)
    refuse_no_rows(titles, films.height, "take the source `files`")
    posters = folder.picture_files(settings.posters, required=set_by_user(settings, "posters"), counts=dropped)
    details = _read_details(folder, settings, params, dropped)
    enough = ratings["rating"] >= settings.min_rating
    dropped["ratings_too_low"] += int((~enough).sum())
    ratings = ratings.filter(enough)
    if settings.require_poster:
        has_poster = ratings["movieId"].is_in(list(posters))
        dropped["ratings_without_poster"] += int((~has_poster).sum())
        ratings = ratings.filter(has_poster)
    rows = [_film_texts(row, details.get(row["movieId"], {}), params.max_text) for row in films.iter_rows(named=True)]
    return RawCatalog(
        events=ratings.select(pl.col("userId").alias("user"), pl.col("movieId").alias("item"), "timestamp"),
        items=items_frame_of_rows(rows),
        pictures=posters,
        dropped=dropped,
    )


def _times(folder: DataFolder, column: pl.Series) -> TimeColumn:
    remedy = "convert the times to seconds, or use the source `files` with ingest.files.timestamp_unit: UNIT"
    return TimeColumn(column, "s", folder.root / "ratings.csv", column.name, remedy)


def _read(
    path: Path, columns: dict[str, type[pl.DataType]], params: IngestParams, dropped: Counter[str]
) -> pl.DataFrame:
    """Return a table with its keys in their one spelling."""
    frame = read_table(path, columns, params.encoding, dropped)
    for name in frame.columns:
        if name in ("userId", "movieId"):
            keys, repaired = require_keys(frame[name], str(path), lambda row: f"row {row + 1}", name=name)
            dropped["keys_repaired"] += repaired
            frame = frame.with_columns(keys.alias(name))
    return frame


def _read_details(
    folder: DataFolder, settings: MovielensParams, params: IngestParams, dropped: Counter[str]
) -> dict[str, dict[str, Any]]:
    """Return the films' details by movie id; of several lines of a film the longest. Empty without such a file."""
    if set_by_user(settings, "details"):
        path = folder.require_file(settings.details, "ingest.movielens.details names it")
    else:
        path = folder.optional_path(settings.details) if settings.details else None
    if path is None:
        return {}
    lines = JsonLines(
        path,
        required=("movieId",),
        remedy="name the films' ids movieId, or set ingest.movielens.details to empty",
        encoding=params.encoding,
        max_bad_share=params.max_bad_lines,
    )
    rows, numbers = [], []
    for row in lines:
        rows.append(row)
        numbers.append(lines.line)
    keys, repaired = require_keys(
        pl.Series([json_key(row["movieId"]) for row in rows], dtype=pl.String),
        str(path),
        lambda row: f"line {numbers[row]}",
        name="movieId",
        values=lambda row: rows[row]["movieId"],
    )
    details: dict[str, dict[str, Any]] = {}
    for key, row in zip(keys, rows, strict=True):
        dropped["details_duplicate_rows"] += key in details
        if key not in details or len(str(row)) > len(str(details[key])):
            details[key] = row
    dropped["details_bad_lines"] += lines.bad
    dropped["keys_repaired"] += repaired
    return details


def _film_texts(row: dict[str, Any], details: dict[str, Any], max_characters: int) -> dict[str, Any]:
    """Return a film's row of the items frame; "Matrix, The (1999)" becomes "The Matrix", its year an attribute."""
    raw = clean_text(row["title"], max_characters)
    year = _YEAR.search(raw)
    title = _YEAR.sub("", raw)
    article = _ARTICLE.match(title)
    if article:
        title = f"{article[2]}{'' if article[2].endswith(chr(39)) else ' '}{article[1]}"
    attributes = {name: details.get(name, "") for name in _ATTRIBUTES}
    attributes["year"] = year[1] if year else attributes["year"]
    without_placeholders = {name: _without_placeholder(value) for name, value in attributes.items()}
    genres = clean_categories(row.get("genres") or "", 100, separator="|")
    return {
        "item_key": row["movieId"],
        "title": title,
        "description": clean_text(_without_placeholder(details.get("plot")), max_characters),
        "categories": [genre for genre in genres if genre != "(no genres listed)"],
        "attributes": clean_attributes(without_placeholders, max_characters),
    }


def _without_placeholder(value: object) -> object:
    """Return an empty string for `N/A`, which stands for a missing value."""
    return "" if value == "N/A" else value
