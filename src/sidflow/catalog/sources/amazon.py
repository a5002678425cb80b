"""Source `amazon`: raw Amazon Reviews files of 2014, 2018 and 2023, reviews and metadata, gzipped or plain.

| | 2014 | 2018 | 2023 |
|---|---|---|---|
| user, item | reviewerID, asin | the same | user_id, parent_asin |
| stars, time | overall, unixReviewTime (s) | the same | rating, timestamp (ms) |
| text | Python literals, categories [[..]] | category, feature | categories, features, store, details |

Source: https://amazon-reviews-2023.github.io and its predecessors' data pages.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from sidflow.catalog.params import IngestParams, set_by_user
from sidflow.catalog.raw import (
    ITEM_COLUMNS,
    RawCatalog,
    clean_attributes,
    clean_categories,
    clean_text,
    items_frame,
    items_frame_of_rows,
)
from sidflow.catalog.reading import DataFolder, JsonLines
from sidflow.core.errors import InputError
from sidflow.core.files import note_read

FIELDS_2014 = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
FIELDS_2023 = {"user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
NAMES = ("user", "item", "rating", "timestamp")
BLOCK_BYTES = 32_000_000  # bytes of reviews parsed at once
ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def read_amazon(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of review files, with metadata and pictures where the folder has them."""
    folder, settings = DataFolder(path), params.amazon
    json_files = [file for ending in ENDINGS for file in folder.match_files(f"*{ending}")]
    if settings.metadata:
        metadata = folder.match_files(settings.metadata)
    else:
        metadata = [file for file in json_files if file.name.startswith("meta")]
    if settings.metadata and not metadata:
        raise InputError(
            str(folder.root),
            expected=f"files `{settings.metadata}` of metadata",
            found="none",
            remedy="correct ingest.amazon.metadata, or set it to empty: files named meta* are then used",
        )
    if path.is_file():
        reviews = [path]
    elif settings.reviews:
        reviews = folder.match_files(settings.reviews)
    else:
        reviews = [file for file in json_files if file not in metadata]
    if not reviews or (len(reviews) > 1 and not settings.reviews):
        raise InputError(
            str(folder.root),
            expected="one file of reviews",
            found=f"{[file.name for file in reviews]}",
            remedy="set ingest.amazon.reviews to its name, or to a pattern of the files to join",
        )
    parsed = [_read_reviews(file) for file in reviews]
    events = pl.concat([frame for frame, _ in parsed])
    notes: dict[str, int | float | str] = {
        "reviews_bad_lines": sum(bad for _, bad in parsed),
        "reviews_too_low": events.filter(pl.col("rating") < settings.min_rating).height,
    }
    events = events.filter(pl.col("rating") >= settings.min_rating).select("user", "item", "timestamp")
    items = [_read_metadata(file, params.max_text, notes) for file in metadata]
    return RawCatalog(
        events=events,
        items=pl.concat(items).unique("item_key", keep="first", maintain_order=True)
        if items
        else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images")),
        notes=notes,
    )


def _read_reviews(path: Path) -> tuple[pl.DataFrame, int]:
    """Return (user, item, rating, timestamp) of one file, and the number of lines without all four.

    Raises:
        InputError: no line has the fields of one of the three versions.
    """
    note_read(path)
    frames, bad, schema = [], 0, None
    with cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as handle:
        for block in _blocks(handle):
            if schema is None:
                schema = FIELDS_2023 if b'"parent_asin"' in block[:100_000] else FIELDS_2014
            frame = _parse(block, schema)
            complete = frame.drop_nulls()
            bad += block.count(b"\n") - complete.height
            frames.append(complete)
    if schema is None or not sum(frame.height for frame in frames):
        raise InputError(
            str(path),
            expected=f"reviews with {list(FIELDS_2014)} or {list(FIELDS_2023)}",
            found="none",
            count=bad,
            remedy="give a raw review file of Amazon Reviews 2014, 2018 or 2023",
        )
    joined = pl.concat(frames).rename(dict(zip(schema, NAMES, strict=True)))
    if schema is FIELDS_2023:
        joined = joined.with_columns(pl.col("timestamp") // 1000)
    return joined, bad


def _blocks(handle: BinaryIO) -> Iterator[bytes]:
    """Yield blocks of whole lines, about `BLOCK_BYTES` bytes each; the last line ends in a line break."""
    while block := handle.read(BLOCK_BYTES):
        block += handle.readline()
        yield block if block.endswith(b"\n") else block + b"\n"


def _parse(block: bytes, schema: dict[str, Any]) -> pl.DataFrame:
    """Return a block's rows; where a line is broken, the block is parsed by line and a broken line gives nulls."""
    try:
        return pl.read_ndjson(io.BytesIO(block), schema=schema)
    except pl.exceptions.PolarsError:
        # Not `splitlines`: it also cuts at U+2028, U+2029 and U+0085, which a JSON string may hold.
        lines = block.decode("utf-8", "replace").removesuffix("\n").split("\n")
        return pl.DataFrame([_parse_line(line, schema) for line in lines], schema=schema, orient="row", strict=False)


def _parse_line(line: str, schema: dict[str, Any]) -> tuple[Any, ...]:
    """Return the line's fields, all None where it is no JSON object."""
    try:
        row = json.loads(line)
        return tuple(row.get(name) for name in schema)
    except (ValueError, AttributeError, RecursionError):
        return (None,) * len(schema)


def _read_metadata(path: Path, max_characters: int, notes: dict[str, int | float | str]) -> pl.DataFrame:
    """Return the item texts of one metadata file; its bad lines are added to `notes`."""
    lines = JsonLines(path, literals=True)
    columns: dict[str, list[Any]] = {name: [] for name in ITEM_COLUMNS}
    for row in lines:
        key = row.get("parent_asin") or row.get("asin")
        if not key:
            continue
        features = row.get("feature") or row.get("features")
        details = row.get("details")
        columns["item_key"].append(str(key))
        columns["title"].append(clean_text(row.get("title"), max_characters))
        columns["description"].append(clean_text([row.get("description"), features], max_characters))
        columns["brand"].append(clean_text(row.get("brand") or row.get("store"), max_characters))
        columns["categories"].append(clean_categories(row.get("categories") or row.get("category") or [], 200))
        columns["attributes"].append(clean_attributes(details if isinstance(details, dict) else {}, max_characters))
    notes["metadata_bad_lines"] = int(notes.get("metadata_bad_lines", 0)) + lines.bad
    return items_frame(columns)
