"""What every source hands over: events, items' words, pictures, and what it noticed on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

Picture = Path | Callable[[], Image.Image]  # a file to be checked, or a drawing of our own

WORDS = {
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
        events: columns `user`, `item` (strings, categoricals or integers: the outside world's keys) and
            `timestamp` (seconds UTC, int64).
        items: columns of `WORDS`, one row per key, in any order; items without events are welcome.
        pictures: by item key; an item without one is simply missing.
        clock: false where the timestamp is only the position in the user's sequence.
        notes: what the source noticed, for reports/ingest.json: numbers and short strings.
        truth: the generator's next-item probabilities, of the synthetic shop only.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    clock: bool = True
    notes: Mapping[str, int | float | str] = field(default_factory=dict)
    truth: Truth | None = None


@dataclass(frozen=True)
class Truth:
    """The next-item probabilities that a generator used.

    Attributes:
        positions: how many of each user's last events they are wanted for.
        item_keys: the generator's items, in its own order.
        behind: maps user keys and item keys of events (a generator repeats no item of a user) to what each was drawn
            from: float64 [events, items], zero for what the user already had, sum 1.
    """

    positions: int
    item_keys: list[str]
    behind: Callable[[list[str], list[str]], np.ndarray]


def words(columns: Mapping[str, object]) -> pl.DataFrame:
    """Return an items frame; columns that are left out are empty."""
    frame = pl.DataFrame(columns)
    empty = {
        "categories": pl.lit([], dtype=WORDS["categories"]),
        "attributes": pl.lit([], dtype=WORDS["attributes"]),
    }
    absent = [empty.get(name, pl.lit("")).alias(name) for name in WORDS if name not in frame.columns]
    return frame.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in WORDS.items())
