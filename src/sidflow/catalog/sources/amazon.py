"""Source `amazon`: raw Amazon Reviews files of 2014, 2018 and 2023, reviews and metadata, gzipped or plain.

| | 2014 | 2018 | 2023 |
|---|---|---|---|
| user, item | reviewerID, asin | the same | user_id, parent_asin |
| stars, time | overall, unixReviewTime (s) | the same | rating, timestamp (ms) |
| words | Python literals, categories [[..]] | category, feature | categories, features, store, details |

Source: https://amazon-reviews-2023.github.io and its predecessors' data pages.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from sidflow.catalog import cleaning
from sidflow.catalog.folder import Folder
from sidflow.catalog.params import IngestParams, named
from sidflow.catalog.raw import WORDS, RawCatalog, words
from sidflow.catalog.sources.lines import JsonLines
from sidflow.contracts import trace
from sidflow.contracts.errors import InputError

OLD = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
NEW = {"user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
NAMES = ("user", "item", "rating", "timestamp")
BLOCK = 32_000_000  # bytes of reviews parsed at once
ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Read reviews, and metadata and pictures where there are any."""
    folder, own = Folder(path), params.amazon
    listed = [found for ending in ENDINGS for found in folder.find(f"*{ending}")]
    about = folder.find(own.metadata) if own.metadata else [found for found in listed if found.name.startswith("meta")]
    if own.metadata and not about:
        raise InputError(
            str(folder.root),
            expected=f"files `{own.metadata}` of metadata",
            found="none",
            remedy="name them in ingest.amazon.metadata, or empty it: those called meta* are taken, if any",
        )
    if path.is_file():
        reviews = [path]
    elif own.reviews:
        reviews = folder.find(own.reviews)
    else:
        reviews = [found for found in listed if found not in about]
    if not reviews or (len(reviews) > 1 and not own.reviews):
        raise InputError(
            str(folder.root),
            expected="one file of reviews",
            found=f"{[found.name for found in reviews]}",
            remedy="name it, or a pattern of those to join, in ingest.amazon.reviews",
        )
    parsed = [_reviews(found) for found in reviews]
    events = pl.concat([frame for frame, _ in parsed])
    notes: dict[str, int | float | str] = {
        "reviews_bad_lines": sum(bad for _, bad in parsed),
        "reviews_too_low": events.filter(pl.col("rating") < own.min_rating).height,
    }
    events = events.filter(pl.col("rating") >= own.min_rating).select("user", "item", "timestamp")
    items = [_metadata(found, params.max_text, notes) for found in about]
    return RawCatalog(
        events=events,
        items=pl.concat(items).unique("item_key", keep="first", maintain_order=True)
        if items
        else words({"item_key": pl.Series([], dtype=pl.String)}),
        pictures=folder.pictures(own.images, needed=named(own, "images")),
        notes=notes,
    )


def _reviews(path: Path) -> tuple[pl.DataFrame, int]:
    """Return (user, item, rating, timestamp) of one file and how many lines gave none.

    Raises:
        InputError: no line has the fields of one of the three forms.
    """
    trace.note_read(path)
    frames, bad, schema = [], 0, None
    with cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as handle:
        for block in _blocks(handle):
            if schema is None:
                schema = NEW if b'"parent_asin"' in block[:100_000] else OLD
            frame = _parse(block, schema)
            whole = frame.drop_nulls()
            bad += block.count(b"\n") - whole.height
            frames.append(whole)
    if schema is None or not sum(frame.height for frame in frames):
        raise InputError(
            str(path),
            expected=f"reviews with {list(OLD)} or {list(NEW)}",
            found="none",
            count=bad,
            remedy="give a raw review file of Amazon Reviews 2014, 2018 or 2023",
        )
    joined = pl.concat(frames).rename(dict(zip(schema, NAMES, strict=True)))
    if schema is NEW:
        joined = joined.with_columns(pl.col("timestamp") // 1000)
    return joined, bad


def _blocks(handle: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines, about `BLOCK` bytes at a time, the last one ended."""
    while block := handle.read(BLOCK):
        block += handle.readline()
        yield block if block.endswith(b"\n") else block + b"\n"


def _parse(block: bytes, schema: dict[str, Any]) -> pl.DataFrame:
    """Parse a block at once; if a line is broken, line by line, where a broken one gives nulls."""
    try:
        return pl.read_ndjson(io.BytesIO(block), schema=schema)
    except pl.exceptions.PolarsError:
        # Not `splitlines`: it also cuts at U+2028, U+2029 and U+0085, which a JSON string may hold.
        lines = block.decode("utf-8", "replace").removesuffix("\n").split("\n")
        return pl.DataFrame([_one(line, schema) for line in lines], schema=schema, orient="row", strict=False)


def _one(line: str, schema: dict[str, Any]) -> tuple[Any, ...]:
    import json

    try:
        row = json.loads(line)
        return tuple(row.get(name) for name in schema)
    except (ValueError, AttributeError, RecursionError):
        return (None,) * len(schema)


def _metadata(path: Path, most: int, notes: dict[str, int | float | str]) -> pl.DataFrame:
    """Return the items' words of one metadata file."""
    lines = JsonLines(path, literals=True)
    columns: dict[str, list[Any]] = {name: [] for name in WORDS}
    for row in lines:
        key = row.get("parent_asin") or row.get("asin")
        if not key:
            continue
        features = row.get("feature") or row.get("features")
        details = row.get("details")
        columns["item_key"].append(str(key))
        columns["title"].append(cleaning.text(row.get("title"), most))
        columns["description"].append(cleaning.text([row.get("description"), features], most))
        columns["brand"].append(cleaning.text(row.get("brand") or row.get("store"), most))
        columns["categories"].append(cleaning.labels(row.get("categories") or row.get("category") or [], 200))
        columns["attributes"].append(cleaning.attributes(details if isinstance(details, dict) else {}, most))
    notes["metadata_bad_lines"] = int(notes.get("metadata_bad_lines", 0)) + lines.bad
    return words(columns)
