"""Source `amazon`: raw Amazon Reviews files of 2014, 2018 and 2023, reviews and metadata, gzipped or plain.

| | 2014 | 2018 | 2023 |
|---|---|---|---|
| user, item | reviewerID, asin | the same | user_id, parent_asin |
| stars, time | overall, unixReviewTime (s) | the same | rating, timestamp (ms) |
| text | Python literals, categories [[..]] | category, feature | categories, features, store, details |

Source: https://amazon-reviews-2023.github.io and its predecessors' data pages.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from sidflow.catalog.json_files import JsonLines, RepeatedNames, parse_object, refuse_too_many_bad
from sidflow.catalog.keys import NO_KEY_MARK, describe_value, json_key, require_keys
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
from sidflow.catalog.reading import DataFolder
from sidflow.catalog.text_files import check_utf8, open_utf8, without_inner_marks
from sidflow.catalog.times import UNITS_PER_SECOND, TimeColumn, check_unit, check_variety, stray_times
from sidflow.core.errors import InputError

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
    dropped: Counter[str] = Counter()
    events = pl.concat([_read_reviews(file, params, dropped) for file in reviews])
    enough = events["rating"] >= settings.min_rating
    dropped["reviews_too_low"] += int((~enough).sum())
    items = [_read_metadata(file, params, dropped) for file in metadata]
    return RawCatalog(
        events=events.filter(enough).select("user", "item", "timestamp"),
        items=pl.concat(items) if items else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images"), counts=dropped),
        dropped=dropped,
    )


def _read_reviews(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    """Return (user, item, rating, seconds) of one file; lines without all four are counted, as are stray times.

    Raises:
        InputError: no line has the fields of one of the three versions, too many lack them, or a key is none.
    """
    frames, bad, lines, example, schema = [], 0, 0, "", None
    with open_utf8(path, params.encoding) as handle:
        for block, first_line in _blocks(handle):
            check_utf8(block, path, first_line)
            block = without_inner_marks(block)
            if schema is None:
                schema = FIELDS_2023 if b'"parent_asin"' in block[:100_000] else FIELDS_2014
            frame = _parse(block, schema).rename(dict(zip(schema, NAMES, strict=True)))
            incomplete = pl.any_horizontal(pl.all().is_null())
            broken = frame.select(incomplete).to_series()
            if broken.any() and not example:
                example = f"review {lines + int(broken.arg_max() or 0) + 1} of the file"
            bad, lines = bad + int(broken.sum()), lines + frame.height
            frames.append(frame.filter(~broken))
    if schema is None or not sum(frame.height for frame in frames):
        raise InputError(
            str(path),
            expected=f"reviews with {list(FIELDS_2014)} or {list(FIELDS_2023)}",
            found="none",
            count=bad,
            remedy="give a raw review file of Amazon Reviews 2014, 2018 or 2023",
        )
    reviews = pl.concat(frames)
    unit = "ms" if schema is FIELDS_2023 else "s"
    times = TimeColumn(reviews["timestamp"], unit, path, list(schema)[-1], f"convert the times to `{unit}`")
    check_unit(times, times.values)
    seconds = times.values // UNITS_PER_SECOND[unit]
    stray = stray_times(seconds)
    if stray.any() and not example:
        example = f"the time {times.values.filter(stray)[0]}"
    reviews = reviews.with_columns(seconds.alias("timestamp")).filter(~stray)
    bad += int(stray.sum())
    refuse_too_many_bad(path, bad, lines, example, params.max_bad_lines)
    dropped["reviews_bad_lines"] += bad
    check_variety(times, reviews["timestamp"], are_numbers=True)
    for role, name in zip(NAMES[:2], schema, strict=False):
        keys, repaired = require_keys(reviews[role], str(path), lambda row: f"complete review {row + 1}", name=name)
        dropped["keys_repaired"] += repaired
        reviews = reviews.with_columns(keys.alias(role))
    return reviews


def _blocks(handle: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole lines, about `BLOCK_BYTES` bytes each, with the number of the first line.

    The last line ends in a line break.
    """
    line = 1
    while block := handle.read(BLOCK_BYTES):
        block += handle.readline(BLOCK_BYTES)  # bounded: a file without line ends is not kept in memory
        yield block if block.endswith(b"\n") else block + b"\n", line
        line += block.count(b"\n")


def _parse(block: bytes, schema: dict[str, Any]) -> pl.DataFrame:
    """Return a block's rows; where a line is broken, the block is parsed by line and a broken line gives nulls.

    A line in which a field may stand twice is broken where it has two values.
    """
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=schema)
        if not any(block.count(b'"%s"' % name.encode()) > frame.height for name in schema):
            return frame
    except pl.exceptions.PolarsError:
        pass
    # Not `splitlines`: it also cuts at U+2028, U+2029 and U+0085, which a JSON string may hold.
    lines = [line for line in block.decode("utf-8").split("\n") if line.strip()]
    return pl.DataFrame([_parse_line(line, schema) for line in lines], schema=schema, orient="row")


def _parse_line(line: str, schema: dict[str, Any]) -> tuple[Any, ...]:
    """Return the line's user, item, rating and time, each None where it is absent; all where it is no JSON object."""
    try:
        row = json.loads(line, object_pairs_hook=parse_object)
    except (ValueError, RecursionError):
        return (None,) * len(schema)
    if not isinstance(row, dict) or isinstance(row, RepeatedNames):
        return (None,) * len(schema)
    user, item, rating, time = (row.get(name) for name in schema)
    seconds = _number(time)
    whole = seconds is not None and abs(seconds) < 2**63
    return _key_text(user), _key_text(item), _number(rating), int(seconds) if seconds is not None and whole else None


def _key_text(value: object) -> str | None:
    """Return a key's text; what is no key is marked, so that `require_keys` refuses it."""
    return None if value is None else json_key(value) or NO_KEY_MARK + describe_value(value)


def _number(value: object) -> float | int | None:
    """Return a finite number, also one that is written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def _read_metadata(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    """Return the item texts of one metadata file; its bad lines are counted."""
    lines = JsonLines(
        path,
        required=("parent_asin", "asin"),
        literals=True,
        encoding=params.encoding,
        max_bad_share=params.max_bad_lines,
    )
    columns: dict[str, list[Any]] = {name: [] for name in ITEM_COLUMNS}
    keys: list[object] = []
    numbers: list[int] = []
    for row in lines:
        keys.append(row["asin"] if row.get("parent_asin") is None and "asin" in row else row.get("parent_asin"))
        numbers.append(lines.line)
        features = row.get("feature") or row.get("features")
        details = row.get("details")
        columns["item_key"].append(json_key(keys[-1]))
        columns["title"].append(clean_text(row.get("title"), params.max_text))
        columns["description"].append(clean_text([row.get("description"), features], params.max_text))
        columns["brand"].append(clean_text(row.get("brand") or row.get("store"), params.max_text))
        columns["categories"].append(clean_categories(row.get("categories") or row.get("category") or [], 200))
        columns["attributes"].append(clean_attributes(details if isinstance(details, dict) else {}, params.max_text))
    dropped["metadata_bad_lines"] += lines.bad
    frame = items_frame(columns)
    item_keys, repaired = require_keys(
        frame["item_key"],
        str(path),
        lambda row: f"line {numbers[row]}",
        name="parent_asin or asin",
        values=lambda row: keys[row],
    )
    dropped["keys_repaired"] += repaired
    return frame.with_columns(item_keys.alias("item_key"))
