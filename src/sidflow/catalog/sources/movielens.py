"""Source `movielens`: ratings.csv and movies.csv of GroupLens, with details.jsonl and posters if present."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from sidflow.catalog import cleaning
from sidflow.catalog.folder import Folder
from sidflow.catalog.params import IngestParams, MovielensParams, named
from sidflow.catalog.raw import RawCatalog, words
from sidflow.catalog.sources.columns import read_table
from sidflow.catalog.sources.lines import JsonLines

_YEAR = re.compile(r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|Der|Die|Das|Le|La|Les|L'|El|Los|Las|Il|Un|Une)$")
_ATTRIBUTES = ("director", "actors", "language", "country", "year")


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Read the folder; `ingest.movielens.require_poster` keeps only the ratings of films that have one."""
    folder, own = Folder(path), params.movielens
    wanted = {"userId": pl.String, "movieId": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
    ratings = read_table(folder.file("ratings.csv", "who rated what"), wanted)
    films = read_table(folder.file("movies.csv", "titles and genres"), {"movieId": pl.String, "title": pl.String})
    posters = folder.pictures(own.posters, needed=named(own, "posters"))
    details, notes = _details(folder, own)
    notes["ratings_too_low"] = ratings.filter(pl.col("rating") < own.min_rating).height
    ratings = ratings.filter(pl.col("rating") >= own.min_rating)
    if own.require_poster:
        shown = ratings["movieId"].is_in(list(posters))
        notes["ratings_without_poster"] = int((~shown).sum())
        ratings = ratings.filter(shown)
    rows = [_film(row, details.get(row["movieId"], {}), params.max_text) for row in films.iter_rows(named=True)]
    return RawCatalog(
        events=ratings.select(
            pl.col("userId").alias("user"), pl.col("movieId").alias("item"), pl.col("timestamp").alias("timestamp")
        ),
        items=words({name: [row[name] for row in rows] for name in rows[0]}) if rows else words({"item_key": []}),
        pictures=posters,
        notes=notes,
    )


def _details(folder: Folder, own: MovielensParams) -> tuple[dict[str, dict[str, Any]], dict[str, int | float | str]]:
    if named(own, "details"):
        path = folder.file(own.details, "ingest.movielens.details names it")
    else:
        path = folder.maybe(own.details) if own.details else None
    if path is None:
        return {}, {}
    lines = JsonLines(path)
    found = {str(row["movieId"]): row for row in lines if "movieId" in row}
    return found, {"details_bad_lines": lines.bad}


def _film(row: dict[str, Any], details: dict[str, Any], most: int) -> dict[str, Any]:
    raw = cleaning.text(row["title"], most)
    year = _YEAR.search(raw)
    title = _YEAR.sub("", raw)
    swapped = _ARTICLE.match(title)
    if swapped:
        title = f"{swapped[2]}{'' if swapped[2].endswith(chr(39)) else ' '}{swapped[1]}"
    said = {name: details.get(name, "") for name in _ATTRIBUTES}
    said["year"] = year[1] if year else said["year"]
    genres = cleaning.labels(row.get("genres") or "", 100, separator="|")
    return {
        "item_key": row["movieId"],
        "title": title,
        "description": cleaning.text(_known(details.get("plot")), most),
        "categories": [genre for genre in genres if genre != "(no genres listed)"],
        "attributes": cleaning.attributes({name: _known(value) for name, value in said.items()}, most),
    }


def _known(value: object) -> object:
    return "" if value == "N/A" else value
