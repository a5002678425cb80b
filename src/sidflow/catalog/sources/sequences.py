"""Source `sequences`: published histories without timestamps, in the three forms that papers publish.

- LETTER and LC-Rec: `NAME.inter.json` {user: [item, ...]}, texts in `NAME.item.json` {item: {title, ...}}
- one line per user: `user item item ...`
- JSONL: {"user": ..., "items": [...]}, texts in `items.jsonl` {"item": ..., "title": ...}

The timestamp is the position; the report has `timestamps_known: 0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sidflow.catalog.params import IngestParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, JsonLines, open_text, read_json
from sidflow.core.errors import InputError

SEQUENCE_PATTERNS = ("*.inter.json", "*sequences*.jsonl", "*sequences*.jsonl.gz", "*.txt")
ITEM_PATTERNS = ("*.item.json", "*items*.jsonl", "*items*.jsonl.gz")
IGNORED_FILES = ("readme.txt", "license.txt", "licence.txt")
UserSequence = tuple[str, list[str]]


def read_sequences(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of a file of sequences, with item texts and pictures where the folder has them."""
    folder, settings = DataFolder(path), params.sequences
    file = path if path.is_file() else _single_file(folder, settings.sequences, SEQUENCE_PATTERNS, "sequences")
    assert file is not None
    users, items = [], []
    for user, sequence in _read_file(file):
        users.append(user)
        items.append(sequence)
    _check_sequences(file, users, items)
    lengths = np.array([len(sequence) for sequence in items])
    starts = np.cumsum(lengths) - lengths
    events = pl.DataFrame(
        {
            "user": pl.Series(users, dtype=pl.String).gather(np.repeat(np.arange(len(users)), lengths)),
            "item": pl.Series([item for sequence in items for item in sequence], dtype=pl.String),
            "timestamp": np.arange(lengths.sum()) - np.repeat(starts, lengths),
        }
    )
    source = _single_file(folder, settings.items, ITEM_PATTERNS, "items", required=bool(settings.items))
    return RawCatalog(
        events=events,
        items=_read_items(source, params.max_text) if source else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images")),
        has_timestamps=False,
    )


def _single_file(
    folder: DataFolder, pattern: str, default_patterns: tuple[str, ...], param: str, *, required: bool = True
) -> Path | None:
    """Return the one file that matches `pattern`, or without one the first of `default_patterns` that has a match."""
    for candidate in (pattern,) if pattern else default_patterns:
        files = [path for path in folder.match_files(candidate) if path.name.lower() not in IGNORED_FILES]
        if len(files) > 1:
            raise InputError(
                str(folder.root),
                expected=f"one file of {param}",
                found=f"{[path.name for path in files]}",
                remedy=f"name one in ingest.sequences.{param}",
            )
        if files:
            return files[0]
    if required:
        raise InputError(
            str(folder.root),
            expected=f"a file of {param} like {pattern or default_patterns}",
            found="none",
            remedy=f"set ingest.path to its folder, or ingest.sequences.{param} to its name",
        )
    return None


def _read_file(path: Path) -> Iterator[UserSequence]:
    """Yield each user with the items in order; the suffix decides the form."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        for row in JsonLines(path):
            if "user" not in row or not isinstance(row.get("items"), list):
                raise InputError(
                    str(path),
                    expected='lines like {"user": ..., "items": [...]}',
                    found=f"{sorted(row)}",
                    remedy="convert it",
                )
            yield str(row["user"]), [str(item) for item in row["items"]]
    elif name.endswith(".json"):
        content = read_json(path)
        if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
            raise InputError(str(path), expected="{user: [item, ...]}", found="other JSON", remedy="convert it")
        for user, items in content.items():
            yield str(user), [str(item) for item in items]
    else:
        with open_text(path) as handle:
            for line in handle:
                first, *rest = line.split() or [""]
                if first:
                    yield first, rest


def _check_sequences(path: Path, users: list[str], items: list[list[str]]) -> None:
    """Check that there are users, each with one line and at least one item.

    Raises:
        InputError: there are none, or a user has no items or several lines.
    """
    empty = [user for user, sequence in zip(users, items, strict=True) if not sequence]
    duplicates = len(users) - len(set(users))
    if not users or empty or duplicates:
        raise InputError(
            str(path),
            expected="one line per user, with items",
            found=f"{len(users)} users, {len(empty)} without items, {duplicates} of them repeated",
            example=empty[0] if empty else None,
            remedy="join a user's events in one sequence",
        )


def _read_items(path: Path, max_characters: int) -> pl.DataFrame:
    """Return the items frame of a JSON or JSON Lines file."""
    rows: list[dict[str, Any]]
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        rows = [row for row in JsonLines(path) if "item" in row]
    else:
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(str(path), expected="{item: {title, ...}}", found="other JSON", remedy="convert it")
        rows = [{"item": key, **value} for key, value in content.items() if isinstance(value, dict)]
    text_fields = {"item", "title", "description", "brand", "categories", "category"}
    texts = [
        {
            "item_key": str(row["item"]),
            "title": clean_text(row.get("title"), max_characters),
            "description": clean_text(row.get("description"), max_characters),
            "brand": clean_text(row.get("brand"), max_characters),
            "categories": clean_categories(row.get("categories") or row.get("category") or "", 200, separator=","),
            "attributes": clean_attributes(
                {name: value for name, value in row.items() if name not in text_fields}, max_characters
            ),
        }
        for row in rows
    ]
    return items_frame_of_rows(texts)
