"""Source `sequences`: published histories without timestamps, in the three forms that papers publish.

- LETTER and LC-Rec: `NAME.inter.json` {user: [item, ...]}, texts in `NAME.item.json` {item: {title, ...}}
- one line per user: `user item item ...`
- JSONL: {"user": ..., "items": [...]}, texts in `items.jsonl` {"item": ..., "title": ...}

The timestamp is the position; the report has `timestamps_known: 0`.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog.json_files import JsonLines, RepeatedNames, read_json, refuse_too_many_bad
from sidflow.catalog.keys import describe_value, json_key, require_keys
from sidflow.catalog.params import IngestParams, set_by_user
from sidflow.catalog.raw import RawCatalog, clean_attributes, clean_categories, clean_text, items_frame_of_rows
from sidflow.catalog.reading import DataFolder, refuse_no_rows
from sidflow.catalog.text_files import numbered_lines, refuse_carriage_returns, refuse_nul
from sidflow.core.errors import InputError

SEQUENCE_PATTERNS = ("*.inter.json", "*sequences*.jsonl", "*sequences*.jsonl.gz", "*.txt")
ITEM_PATTERNS = ("*.item.json", "*items*.jsonl", "*items*.jsonl.gz")
_HEADER = re.compile(r"(user|session|reviewer)s?([ _-]?(id|key|name))?(:.*)?$", re.IGNORECASE)
IGNORED_FILES = ("readme.txt", "license.txt", "licence.txt")


class UserSequence(NamedTuple):
    """One user's items, as the file has them."""

    where: str  # in the file
    user: object
    items: list[Any]


def read_sequences(path: Path, params: IngestParams) -> RawCatalog:
    """Return the content of a file of sequences, with item texts and pictures where the folder has them."""
    folder, settings = DataFolder(path), params.sequences
    file = path if path.is_file() else _single_file(folder, settings.sequences, SEQUENCE_PATTERNS, "sequences")
    assert file is not None
    dropped: Counter[str] = Counter()
    sequences = _read_file(file, params, dropped)
    source = _single_file(folder, settings.items, ITEM_PATTERNS, "items", required=bool(settings.items))
    return RawCatalog(
        events=sequence_events(sequences, file, dropped),
        items=_read_items(source, params, dropped) if source else items_frame_of_rows([]),
        pictures=folder.picture_files(settings.images, required=set_by_user(settings, "images"), counts=dropped),
        has_timestamps=False,
        dropped=dropped,
    )


def sequence_events(sequences: list[UserSequence], path: Path, dropped: Counter[str]) -> pl.DataFrame:
    """Return the events of sequences.

    Raises:
        InputError: a key is none, or a user has no items or several sequences.
    """
    users = sequence_keys([one.user for one in sequences], path, [one.where for one in sequences], "user", dropped)
    _check_sequences(path, users, sequences)
    lengths = np.array([len(one.items) for one in sequences])
    starts = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(len(lengths)), lengths)
    values = [item for one in sequences for item in one.items]
    return pl.DataFrame(
        {
            "user": users.gather(owner),
            "item": sequence_keys(values, path, _Owners(sequences, users, owner), "item", dropped),
            "timestamp": np.arange(len(owner)) - np.repeat(starts, lengths),
        }
    )


class _Owners:
    """Names the sequence of an event."""

    def __init__(self, sequences: list[UserSequence], users: pl.Series, owner: np.ndarray) -> None:
        self._sequences, self._users, self._owner = sequences, users, owner

    def __getitem__(self, event: int) -> str:
        sequence = int(self._owner[event])
        return f"the sequence of user {self._users[sequence]} ({self._sequences[sequence].where})"


def sequence_keys(
    values: list[Any], path: Path, where: list[str] | _Owners, name: str, dropped: Counter[str]
) -> pl.Series:
    """Return JSON values as keys."""
    column = pl.Series([json_key(value) for value in values], dtype=pl.String)
    keys, repaired = require_keys(column, str(path), where.__getitem__, name=name, values=values.__getitem__)
    dropped["keys_repaired"] += repaired
    return keys


def _single_file(
    folder: DataFolder, pattern: str, default_patterns: tuple[str, ...], param: str, *, required: bool = True
) -> Path | None:
    """Return the one file that matches `pattern`, or without one any of `default_patterns`.

    Raises:
        InputError: several match, though of different forms; or none does and one is `required`.
    """
    matches = {path for one in ((pattern,) if pattern else default_patterns) for path in folder.match_files(one)}
    files = sorted(path for path in matches if path.name.lower() not in IGNORED_FILES)
    if len(files) > 1:
        raise InputError(
            str(folder.root),
            expected=f"one file of {param}",
            found=f"{[path.name for path in files[:12]]}",
            count=len(files),
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


def _read_file(path: Path, params: IngestParams, dropped: Counter[str]) -> list[UserSequence]:
    """Return the sequences of a file in one of the three forms."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        return _read_lines(path, params, dropped)
    if name.endswith(".json"):
        return _read_mapping(path, params)
    sequences = []
    for number, line in numbered_lines(path, params.encoding):
        if line is None:
            raise InputError(
                str(path), expected="one line per user", found=f"line {number} is too long", remedy="convert the file"
            )
        content = line.encode()
        refuse_nul(content, path)
        refuse_carriage_returns(content, path)
        user, *items = (key.decode() for key in content.split())  # bytes: no-break spaces do not separate
        sequences.append(UserSequence(f"line {number}", user, items))
    _refuse_other_forms(path, sequences)
    return sequences


def _refuse_other_forms(path: Path, sequences: list[UserSequence]) -> None:
    """Check that a text file has no header and separates by blanks alone.

    Raises:
        InputError: the first line begins with a name of users; each line is a key or two with commas or the like, or
            has one after each item but the last; or a line has a list between brackets.
    """
    if not sequences:
        return
    first = _line(sequences[0])
    if _HEADER.match(str(sequences[0].user)):
        raise InputError(
            str(path),
            expected="a user and items in each line",
            found=f"a header in {sequences[0].where}",
            example=first,
            remedy="remove the header",
        )
    bracketed = [one for one in sequences if _is_bracketed(one)]
    if bracketed:
        raise InputError(
            str(path),
            expected="a user and items between blanks in each line",
            found="lines with `[` and `]` around them",
            count=len(bracketed),
            example=f"{bracketed[0].where}: {_line(bracketed[0])}",
            remedy="remove the brackets, and all other signs between the items",
        )
    for sign in (",", ";", "|"):
        if _separates(sign, sequences):
            raise InputError(
                str(path),
                expected="a user and items between blanks in each line",
                found=f"`{sign}` between them",
                example=first,
                remedy=f"replace each `{sign}` by a blank",
            )


def _separates(sign: str, sequences: list[UserSequence]) -> bool:
    """Return whether `sign` stands within the one or two keys of each line, or ends each item but a line's last."""
    if all(len(one.items) <= 1 for one in sequences):
        return all(sign in f"{one.user} {' '.join(one.items)}" for one in sequences)
    return all(item.endswith(sign) for one in sequences for item in one.items[:-1])


def _is_bracketed(sequence: UserSequence) -> bool:
    """Return whether a line's items, or its user and items, stand between brackets."""
    keys = [str(sequence.user), *sequence.items]
    return any(key.startswith("[") for key in keys[:2]) and keys[-1].endswith("]")


def _line(sequence: UserSequence) -> str:
    return " ".join(map(str, (sequence.user, *sequence.items)))[:60]


def _read_lines(path: Path, params: IngestParams, dropped: Counter[str]) -> list[UserSequence]:
    settings = params.sequences
    lines = JsonLines(
        path,
        required=(settings.user,),
        remedy="set ingest.sequences.user and ingest.sequences.history to the names of user and items",
        encoding=params.encoding,
        max_bad_share=params.max_bad_lines,
    )
    sequences = []
    for row in lines:
        items = row.get(settings.history)
        if not isinstance(items, list):
            raise InputError(
                str(path),
                expected=f'lines like {{"{settings.user}": ..., "{settings.history}": [...]}}',
                found=f"{sorted(row)} in line {lines.line}",
                remedy="set ingest.sequences.user and ingest.sequences.history to the names of user and items",
            )
        sequences.append(UserSequence(f"line {lines.line}", row[settings.user], items))
    dropped["sequences_bad_lines"] += lines.bad
    return sequences


def _read_mapping(path: Path, params: IngestParams) -> list[UserSequence]:
    content = read_json(path, params.encoding)
    if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
        raise InputError(str(path), expected="{user: [item, ...]}", found="other JSON", remedy="convert it")
    pairs = content.pairs if isinstance(content, RepeatedNames) else list(content.items())
    return [UserSequence(f"entry {number}", user, items) for number, (user, items) in enumerate(pairs, start=1)]


def _check_sequences(path: Path, users: pl.Series, sequences: list[UserSequence]) -> None:
    """Check that there are users, each with one sequence and at least one item.

    Raises:
        InputError: there are none, or a user has no items or several sequences.
    """
    empty = [str(one.user) for one in sequences if not one.items]
    repeated = users.filter(users.is_duplicated()).unique(maintain_order=True).to_list()
    if not sequences or empty or repeated:
        raise InputError(
            str(path),
            expected="one line per user, with items",
            found=f"{len(sequences)} users, {len(empty)} without items, {len(repeated)} of them repeated",
            example=f"user {(empty or repeated)[0]}" if empty or repeated else None,
            remedy="join a user's events in one sequence",
        )


def _read_items(path: Path, params: IngestParams, dropped: Counter[str]) -> pl.DataFrame:
    """Return the items frame of a JSON or JSON Lines file."""
    settings, max_characters = params.sequences, params.max_text
    where: list[str] = []
    rows: list[tuple[object, dict[str, Any]]] = []
    if path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        lines = JsonLines(
            path,
            required=(settings.item,),
            remedy="set ingest.sequences.item to the name of the item",
            encoding=params.encoding,
            max_bad_share=params.max_bad_lines,
        )
        for row in lines:
            rows.append((row[settings.item], row))
            where.append(f"line {lines.line}")
        dropped["items_bad_lines"] += lines.bad
    else:
        content = read_json(path, params.encoding)
        if not isinstance(content, dict):
            raise InputError(str(path), expected="{item: {title, ...}}", found="other JSON", remedy="convert it")
        pairs = content.pairs if isinstance(content, RepeatedNames) else list(content.items())
        rows = [(key, value) for key, value in pairs if isinstance(value, dict)]
        where = [f"entry {number}" for number, (_, value) in enumerate(pairs, start=1) if isinstance(value, dict)]
        bad = [f"{key}: {describe_value(value)}" for key, value in pairs if not isinstance(value, dict)]
        if bad:
            refuse_too_many_bad(path, len(bad), len(pairs), bad[0], params.max_bad_lines)
            dropped["items_bad_lines"] += len(bad)
    refuse_no_rows(path, len(rows), "name another in ingest.sequences.items")
    keys = sequence_keys([key for key, _ in rows], path, where, settings.item, dropped)
    text_fields = {settings.item, "title", "description", "brand", "categories", "category"}
    texts = [
        {
            "item_key": key,
            "title": clean_text(row.get("title"), max_characters),
            "description": clean_text(row.get("description"), max_characters),
            "brand": clean_text(row.get("brand"), max_characters),
            "categories": clean_categories(row.get("categories") or row.get("category") or "", 200, separator=","),
            "attributes": clean_attributes(
                {name: value for name, value in row.items() if name not in text_fields}, max_characters
            ),
        }
        for key, (_, row) in zip(keys, rows, strict=True)
    ]
    return items_frame_of_rows(texts)
