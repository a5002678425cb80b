"""Source `minionerec`: histories as MiniOneRec publishes them, a CSV a part, and its `info` file of items.

- rows of `train`, `valid` and `test`: user_id, history_item_id and item_id; further columns hold titles and codes.
  history_item_id is a list as Python writes it, the items before item_id, of long histories only the last ones
- lines of `info`: code, title and item_id, separated by tabs

A user's rows are joined to one sequence: each continues the one before. The timestamp is the position. Each row's file
is the part of its target; a row that several files have has all of their parts.
Source: https://github.com/AkaliKong/MiniOneRec
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sidflow.artifacts.split import TEST, TRAIN, VALID
from sidflow.catalog.json_files import parse_literal
from sidflow.catalog.params import IngestParams, set_by_user
from sidflow.catalog.raw import MAX_LITERAL_CHARACTERS, RawCatalog, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, collect_table, scan_table
from sidflow.catalog.sources.sequences import UserSequence, sequence_events, sequence_keys
from sidflow.catalog.text_files import numbered_lines, refuse_carriage_returns
from sidflow.core.errors import InputError

PARTS = (TRAIN, VALID, TEST)  # in the order of time; folders, or words in file names
COLUMNS = ("user_id", "history_item_id", "item_id")


def read_minionerec(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of the parts, with item texts and pictures where the folder has them."""
    settings, dropped = params.minionerec, Counter[str]()
    sequences: dict[str, list[str]] = {}
    targets: dict[str, dict[int, str]] = {}  # by user, the parts of each position that a row has as its target
    titles: dict[str, str] = {}
    files = {path: None} if path.is_file() else _part_files(path, settings.name)
    for file, part in files.items():
        for row, user, items, title in _rows(file, params, dropped):
            joined = _continued(sequences.get(user, []), items)
            if joined is None:
                raise InputError(
                    str(file),
                    expected="rows of a user that continue one another, from train to valid to test",
                    found=f"another history of user {user} in row {row}",
                    remedy="give the parts of one category, as published",
                )
            dropped["rows_repeated"] += len(joined.sequence) == len(sequences.get(user, []))
            sequences[user] = joined.sequence
            titles.setdefault(items[-1], title)
            if part is not None:
                parts = targets.setdefault(user, {})
                parts[joined.target] = " ".join(dict.fromkeys([*parts.get(joined.target, "").split(), part]))
    folder = DataFolder(path)
    info = _info_file(path if path.is_dir() else path.parent, settings.name)
    if info:
        titles |= {key: title for key, title in _info_titles(info, params, dropped).items() if title}
    rows = [UserSequence(f"user {user}", user, items) for user, items in sequences.items()]
    first = next(iter(files))
    events = sequence_events(rows, first, dropped)
    if targets:
        flat = [targets[user].get(position) for user, items in sequences.items() for position in range(len(items))]
        events = events.with_columns(pl.Series("part", flat, dtype=pl.String))
    keys = sequence_keys(list(titles), info or first, [f"item {key}" for key in titles], "item", dropped)
    texts = [
        {"item_key": key, "title": clean_text(title, params.max_text)}
        for key, title in zip(keys, titles.values(), strict=True)
    ]
    return RawCatalog(
        events=events,
        items=items_frame_of_rows(texts),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images"), counts=dropped),
        has_timestamps=False,
        dropped=dropped,
    )


def _part_files(root: Path, name: str) -> dict[Path, str]:
    """Return the CSV of each part, with its part, in folders of their own or side by side.

    Raises:
        InputError: there is none, or several of one part.
    """
    files: dict[Path, str] = {}
    for part in PARTS:
        own = DataFolder(root).subfolder(part)
        if own is not None:
            matches = own.match_files(f"{name}.csv")
        else:
            matches = [file for file in DataFolder(root).match_files(f"{name}.csv") if part in file.name.lower()]
        if len(matches) > 1:
            raise InputError(
                str(root),
                expected=f"one CSV file of {part}",
                found=f"{[file.name for file in matches]}",
                remedy="set ingest.minionerec.name to a pattern of one category, without .csv",
            )
        files |= dict.fromkeys(matches, part)
    if not files:
        raise InputError(
            str(root),
            expected=f"CSV files `{name}.csv` in the folders {', '.join(PARTS)}, or with these words in their names",
            found="none",
            remedy="set ingest.path to the folder that holds them, or ingest.minionerec.name to their pattern",
        )
    return files


def _info_file(root: Path, name: str) -> Path | None:
    """Return the file of items, in the folder `info` or beside the parts."""
    own = DataFolder(root).subfolder("info")
    folder = own or DataFolder(root)
    files = folder.match_files(f"{name}.txt")
    if own is None:
        files = [file for file in files if "info" in file.name.lower()]
    if len(files) > 1:
        raise InputError(
            str(folder.root),
            expected="one file of items",
            found=f"{[file.name for file in files]}",
            remedy="set ingest.minionerec.name to a pattern of one category, without .txt",
        )
    return files[0] if files else None


def _rows(file: Path, params: IngestParams, dropped: Counter[str]) -> Iterator[tuple[int, str, list[str], str]]:
    """Yield the number of a row, its user, its items with the target last, and the target's title."""
    lazy = scan_table(file, params.encoding, dropped)
    names = lazy.collect_schema().names()
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise InputError(
            str(file), expected=f"the columns {', '.join(COLUMNS)}", found=f"columns {names[:20]}", remedy="check it"
        )
    wanted = [*COLUMNS, *(["item_title"] if "item_title" in names else [])]
    frame = collect_table(lazy.select(wanted), file)
    for row, (user, history, item, *title) in enumerate(frame.iter_rows(), start=1):
        items = _listed(history)
        if items is None or not user or not item:
            raise InputError(
                str(file),
                expected="a user, an item, and a list like [1, 2] of the items before it",
                found=f"other values in row {row}",
                example=f"{user}, {str(history)[:60]}, {item}",
                remedy="repair or remove the row",
            )
        yield row, str(user), [*items, str(item)], str(title[0] or "") if title else ""


def _listed(text: object) -> list[str] | None:
    """Return the keys of a list as Python writes it; None where it is none. Only literals are parsed."""
    value = parse_literal(str(text)) if len(str(text)) <= MAX_LITERAL_CHARACTERS else None
    if not isinstance(value, list) or not all(isinstance(key, (str, int)) for key in value):
        return None
    return [str(key) for key in value]


class _Joined(NamedTuple):
    """A user's sequence with one more row."""

    sequence: list[str]
    target: int  # position of the row's target


def _continued(sequence: list[str], items: list[str]) -> _Joined | None:
    """Return a sequence with the items of a row, whose history is its end or longer; None where they disagree."""
    history = items[:-1]
    if sequence[len(sequence) - len(items) :] == items:
        return _Joined(sequence, len(sequence) - 1)  # the last row again
    if sequence[: len(items)] == items:
        return _Joined(sequence, len(items) - 1)  # an early row again
    if not sequence or history[: len(sequence)] == sequence:
        return _Joined(items, len(items) - 1)
    if history and sequence[-len(history) :] == history:
        return _Joined([*sequence, items[-1]], len(sequence))
    return None


def _info_titles(path: Path, params: IngestParams, dropped: Counter[str]) -> dict[str, str]:
    """Return the titles of items by key; of several lines of an item the longest title."""
    titles: dict[str, str] = {}
    for number, line in numbered_lines(path, params.encoding):
        refuse_carriage_returns((line or "").encode(), path)
        fields = (line or "").rstrip("\r\n").split("\t")
        if len(fields) < 3:
            raise InputError(
                str(path),
                expected="code, title and item in each line, separated by tabs",
                found=f"{len(fields)} fields in line {number}",
                example=fields[0][:60],
                remedy="give the info file as published",
            )
        key, title = fields[-1].strip(), " ".join(fields[1:-1]).strip()
        dropped["info_duplicate_lines"] += key in titles
        titles[key] = max(titles.get(key, ""), title, key=len)
    return titles
