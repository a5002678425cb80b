"""Compares views with what is true of the items, where that is recorded: the synthetic catalogue's `item_truth`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

ATTRIBUTES = ("category", "colour", "style", "pattern")


def truth_figures(semantics: pl.DataFrame, truth: pl.DataFrame, views: Sequence[str]) -> dict[str, int | float]:
    """Return how many views name an item's true category, colour, style and pattern; nothing where no truth is known.

    What a view says is the first word in it that is a value of the attribute for any item, so that naming all colours
    is no answer. `items` counts views of items with a truth, `said` those that name any value, `right` the true one;
    `accuracy` is `right` of all `items`.

    Args:
        semantics: columns `item_id`, `view` and `text`.
        truth: the `item_truth` table.
        views: whose figures are returned.
    """
    figures: dict[str, int | float] = {}
    if truth.is_empty():
        return figures
    for view in views:
        joined = semantics.filter(pl.col("view") == view).join(truth, on="item_id", how="inner")
        texts = joined["text"].str.to_lowercase().to_list()
        for attribute in ATTRIBUTES:
            values = sorted({value for value in truth[attribute].to_list() if value})
            pairs = [
                (first_of(text, values), value)
                for text, value in zip(texts, joined[attribute].to_list(), strict=True)
                if value
            ]
            items, right = len(pairs), sum(named == value for named, value in pairs)
            figures |= {
                f"{view}_{attribute}_items": items,
                f"{view}_{attribute}_said": sum(bool(named) for named, _ in pairs),
                f"{view}_{attribute}_right": right,
                f"{view}_{attribute}_accuracy": right / items if items else 0.0,
            }
    return figures


def first_of(text: str, values: Sequence[str]) -> str:
    """Return the first of `values` that stands in `text` as a whole word; empty where none does.

    >>> first_of("a teal mug, not a blue one", ["blue", "teal"])
    'teal'
    """
    match = re.search(rf"\b({'|'.join(map(re.escape, values))})\b", text) if values else None
    return match[0] if match else ""
