"""Raw content of a source: events, item texts, pictures; and the cleaning of raw text that all sources share."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from sidflow.artifacts.item_content import truncate_at_word
from sidflow.catalog.json_files import MAX_DEPTH, parse_literal

Picture = Path | Callable[[], Image.Image]  # a file, or a function that draws it

ITEM_COLUMNS = {
    "item_key": pl.String(),
    "title": pl.String(),
    "description": pl.String(),
    "brand": pl.String(),
    "categories": pl.List(pl.String()),
    "attributes": pl.List(pl.Struct({"name": pl.String(), "value": pl.String()})),
}


@dataclass(frozen=True)
class RawCatalog:
    """A source's content before any filter.

    Attributes:
        events: columns `user`, `item` (keys: strings, categoricals or integers) and
            `timestamp` (seconds UTC, int64). A source that brings its split along has `part`, too, as in the artifact.
        items: columns of `ITEM_COLUMNS`, in any order; items without events are allowed, and of
            several rows of an item the fullest is used.
        pictures: by item key; an item without a picture is absent.
        has_timestamps: false where the timestamp only orders the user's events; equal ones are ties in both cases.
        dropped: what the source left out or repaired, by kind, for reports/ingest.json and the stage's line.
        truth: the generator's next-item probabilities, of the synthetic catalogue only.
        item_truth: by item key its category, style, colour and pattern, of the synthetic catalogue only.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    has_timestamps: bool = True
    dropped: Mapping[str, int] = field(default_factory=dict)
    truth: Truth | None = None
    item_truth: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """The next-item probabilities of a generator.

    Attributes:
        positions: of how many last events of each user the probabilities are kept.
        item_keys: the generator's items, in its own order.
        probabilities_of: maps user keys and item keys of events to the probabilities that each event was sampled from:
            float64 [events, items], zero for items that the user already had, sum 1. No user has an item twice.
    """

    positions: int
    item_keys: list[str]
    probabilities_of: Callable[[list[str], list[str]], np.ndarray]


def items_frame(columns: Mapping[str, object]) -> pl.DataFrame:
    """Return a frame with the columns of `ITEM_COLUMNS`; those that are left out are empty."""
    frame = pl.DataFrame(columns)
    empty = {
        "categories": pl.lit([], dtype=ITEM_COLUMNS["categories"]),
        "attributes": pl.lit([], dtype=ITEM_COLUMNS["attributes"]),
    }
    absent = [empty.get(name, pl.lit("")).alias(name) for name in ITEM_COLUMNS if name not in frame.columns]
    return frame.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in ITEM_COLUMNS.items())


def items_frame_of_rows(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return an items frame of rows that share their columns; an empty one where there are no rows."""
    return items_frame({name: [row[name] for row in rows] for name in rows[0]} if rows else {"item_key": []})


MAX_LITERAL_CHARACTERS = 100_000  # of a list saved as a string; a longer one is plain text

_HIDDEN_ELEMENTS = re.compile(r"<(script|style|head|noscript)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_COMMENTS = re.compile(r"<!--.*?(-->|$)", re.DOTALL)
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")
_UNCLOSED_TAG = re.compile(r"<[a-zA-Z/!][^<>]*$")  # a tag that a length limit has cut
_SELECTOR = r"[\w.#:>, -]"
_GAP = r"(?:[;\s]|/\*[^{}*]*+\*/)*+"  # between declarations: white space and comments
_DECLARATIONS = rf"(?:[a-zA-Z-][\w-]*+\s*+:[^{{}};]{{1,200}}+(?:;{_GAP}|(?=\}})))++"
_STYLE_RULES = re.compile(  # style sheets without their tag; other words in braces are text
    r"(?:^|(?<=\s))"
    rf"(?:[.#@]?{_SELECTOR}{{1,80}}+\{{{_GAP}{_DECLARATIONS}\}}|[.#@]{_SELECTOR}{{1,80}}+\{{{_GAP}\}})"
)
_ITEM_SEPARATOR = re.compile(r"""["'], *["']""")
_SPACE = re.compile(r"\s+")


def clean_text(value: object, max_characters: int) -> str:
    """Return `value` as one clean line of at most `max_characters`, cut at a word.

    Lists, and strings that spell a list ("['..', '..']"), are joined; None and NaN are empty.
    """
    parts = [line for part in flatten_strings(value) if (line := clean_line(part))]
    return truncate_at_word(" ".join(dict.fromkeys(parts)), max_characters)


def clean_line(value: str) -> str:
    """Return a string without markup, entities, control characters and repeated white space."""
    if "<" in value or "&" in value or "{" in value:
        value = html.unescape(html.unescape(value))
        for pattern in (_COMMENTS, _HIDDEN_ELEMENTS, _TAGS, _UNCLOSED_TAG):
            value = pattern.sub(" ", value)
        value = _STYLE_RULES.sub(" ", value) if "{" in value else value
    value = unicodedata.normalize("NFC", value)
    value = "".join(letter if letter.isprintable() else " " for letter in value) if not value.isprintable() else value
    return _SPACE.sub(" ", value).strip()


def flatten_strings(value: object, depth: int = 0) -> list[str]:
    """Return all strings of nested lists and mappings' values; a string that spells a list counts as a list.

    Args:
        value: of any kind.
        depth: in how many lists and mappings it lies; what lies in more than `MAX_DEPTH` is left out.
    """
    if value is None or value != value or depth > MAX_DEPTH:  # NaN is not itself
        return []
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        parsed = _parse_list(value)
        if parsed is None:
            return [value] if value.strip() else []
        value = parsed
    if isinstance(value, Iterable):
        return [string for part in value for string in flatten_strings(part, depth + 1)]
    return [str(value)]


def _parse_list(value: str) -> list | None:
    """Return the list that a string spells, or None. Only literals are parsed; no code is evaluated."""
    stripped = value.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")) or len(stripped) > MAX_LITERAL_CHARACTERS:
        return None
    parsed = parse_literal(_SPACE.sub(" ", stripped))
    if parsed is not None:
        return parsed if isinstance(parsed, list) else None
    is_quoted = stripped[1:2] in "'\"" and stripped[-2:-1] in "'\"" and len(stripped) > 3
    return _ITEM_SEPARATOR.split(stripped[2:-2]) if is_quoted else None  # quotes inside were not escaped


def clean_categories(value: object, max_characters: int, separator: str = "") -> list[str]:
    """Return distinct clean category names, each at most `max_characters`; one string is split at `separator`."""
    parts = flatten_strings(value)
    if separator and isinstance(value, str) and len(parts) == 1:
        parts = parts[0].split(separator)
    names = dict.fromkeys(truncate_at_word(clean_line(part), max_characters) for part in parts)
    return [name for name in names if name]


def clean_attributes(values: Mapping[str, object], max_characters: int) -> list[dict[str, str]]:
    """Return the attributes whose name and value are not empty, sorted by name."""
    cleaned = {clean_line(str(name)): clean_text(value, max_characters) for name, value in values.items()}
    return [{"name": name, "value": cleaned[name]} for name in sorted(cleaned) if name and cleaned[name]]
