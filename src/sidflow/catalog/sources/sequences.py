"""Source `sequences`: published histories without a clock, in the three forms that papers ship.

- LETTER and LC-Rec: `NAME.inter.json` {user: [item, ...]}, words in `NAME.item.json` {item: {title, ...}}
- one line per user: `user item item ...`
- JSONL: {"user": ..., "items": [...]}, words in `items.jsonl` {"item": ..., "title": ...}

The timestamp is the position, which the report says: `timestamps_known: 0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sidflow.catalog import cleaning
from sidflow.catalog.folder import Folder, open_text
from sidflow.catalog.params import IngestParams, named
from sidflow.catalog.raw import RawCatalog, words
from sidflow.catalog.sources.lines import JsonLines, read_json
from sidflow.contracts.errors import InputError

SEQUENCES = ("*.inter.json", "*sequences*.jsonl", "*sequences*.jsonl.gz", "*.txt")
ITEMS = ("*.item.json", "*items*.jsonl", "*items*.jsonl.gz")
NOT_DATA = ("readme.txt", "license.txt", "licence.txt")
Pair = tuple[str, list[str]]


def read(path: Path, params: IngestParams) -> RawCatalog:
    """Read the sequences, and the items' words where there are any."""
    folder, own = Folder(path), params.sequences
    chosen = path if path.is_file() else _only(folder, own.sequences, SEQUENCES, "sequences")
    assert chosen is not None
    users, items = [], []
    for user, sequence in _pairs(chosen):
        users.append(user)
        items.append(sequence)
    _check(chosen, users, items)
    lengths = np.array([len(sequence) for sequence in items])
    starts = np.cumsum(lengths) - lengths
    events = pl.DataFrame(
        {
            "user": pl.Series(users, dtype=pl.String).gather(np.repeat(np.arange(len(users)), lengths)),
            "item": pl.Series([item for sequence in items for item in sequence], dtype=pl.String),
            "timestamp": np.arange(lengths.sum()) - np.repeat(starts, lengths),
        }
    )
    source = _only(folder, own.items, ITEMS, "items", needed=bool(own.items))
    return RawCatalog(
        events=events,
        items=_words(source, params.max_text) if source else words({"item_key": pl.Series([], dtype=pl.String)}),
        pictures=folder.pictures(own.images, needed=named(own, "images")),
        clock=False,
    )


def _only(folder: Folder, pattern: str, known: tuple[str, ...], what: str, *, needed: bool = True) -> Path | None:
    """Return the one file that matches `pattern`, or the first of the known patterns that has a match."""
    for one in (pattern,) if pattern else known:
        found = [path for path in folder.find(one) if path.name.lower() not in NOT_DATA]
        if len(found) > 1:
            raise InputError(
                str(folder.root),
                expected=f"one file of {what}",
                found=f"{[path.name for path in found]}",
                remedy=f"name one in ingest.sequences.{what}",
            )
        if found:
            return found[0]
    if needed:
        raise InputError(
            str(folder.root),
            expected=f"a file of {what} like {pattern or known}",
            found="none",
            remedy=f"set ingest.path to the folder that has it, or ingest.sequences.{what} to its name",
        )
    return None


def _pairs(path: Path) -> Iterator[Pair]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        for row in JsonLines(path):
            if "user" not in row or not isinstance(row.get("items"), list):
                raise InputError(
                    str(path),
                    expected='lines like {"user": ..., "items": [...]}',
                    found=f"{sorted(row)}",
                    remedy="convert",
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


def _check(path: Path, users: list[str], items: list[list[str]]) -> None:
    empty = [user for user, sequence in zip(users, items, strict=True) if not sequence]
    twice = len(users) - len(set(users))
    if not users or empty or twice:
        raise InputError(
            str(path),
            expected="one line per user, with items",
            found=f"{len(users)} users, {len(empty)} without items, {twice} of them repeated",
            example=empty[0] if empty else None,
            remedy="join a user's events in one sequence",
        )


def _words(path: Path, most: int) -> pl.DataFrame:
    rows: list[dict[str, Any]]
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        rows = [row for row in JsonLines(path) if "item" in row]
    else:
        content = read_json(path)
        if not isinstance(content, dict):
            raise InputError(str(path), expected="{item: {title, ...}}", found="other JSON", remedy="convert it")
        rows = [{"item": key, **value} for key, value in content.items() if isinstance(value, dict)]
    used = {"item", "title", "description", "brand", "categories", "category"}
    made = [
        {
            "item_key": str(row["item"]),
            "title": cleaning.text(row.get("title"), most),
            "description": cleaning.text(row.get("description"), most),
            "brand": cleaning.text(row.get("brand"), most),
            "categories": cleaning.labels(row.get("categories") or row.get("category") or "", 200, separator=","),
            "attributes": cleaning.attributes({name: row[name] for name in row if name not in used}, most),
        }
        for row in rows
    ]
    return words({name: [row[name] for row in made] for name in made[0]}) if made else words({"item_key": []})
