"""The common form of every source's content: events, item texts, pictures and notes for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

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
            `timestamp` (seconds UTC, int64).
        items: columns of `ITEM_COLUMNS`, one row per key, in any order; items without events are allowed.
        pictures: by item key; an item without a picture is absent.
        has_timestamps: false where the timestamp is only the position in the user's sequence.
        notes: counts and short strings of the source, for reports/ingest.json.
        truth: the generator's next-item probabilities, of the synthetic catalogue only.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    has_timestamps: bool = True
    notes: Mapping[str, int | float | str] = field(default_factory=dict)
    truth: Truth | None = None


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
