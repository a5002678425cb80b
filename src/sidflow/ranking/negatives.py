"""Sampled negatives: fixed by the seed, independent of the recommender and of how queries are batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sidflow.contracts.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Int32, Int64

_CHUNK = 2_048  # queries sampled at once; the samples depend on it, so it is no setting


def sample_negatives(histories: Histories, items: int, count: int, seed: int) -> Int32[np.ndarray, "q count"]:
    """Return distinct items for every query, uniform among those that are neither in its history nor its target.

    Where fewer than `count` items are left, all of them are taken and the row ends in -1.
    """
    generator = np.random.default_rng(seed)
    negatives = np.full((histories.query_count, count), -1, dtype=np.int32)
    for start in range(0, histories.query_count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, histories.query_count))
        excluded = np.asarray(histories.seen(items, rows).todense())
        excluded[np.arange(len(rows)), histories.targets[rows]] = True
        proposals = generator.integers(items, size=(len(rows), 2 * count + 16))
        usable = ~excluded[np.arange(len(rows))[:, None], proposals] & _first_occurrence(proposals)
        position = np.cumsum(usable, axis=1) - 1
        row, column = np.nonzero(usable & (position < count))
        negatives[start + row, position[row, column]] = proposals[row, column]
        for short in np.flatnonzero(usable.sum(axis=1) < count):  # small catalogues, long histories
            left = generator.permutation(np.flatnonzero(~excluded[short]))[:count]
            negatives[start + short] = -1
            negatives[start + short, : len(left)] = left
    return negatives


def _first_occurrence(values: Int64[np.ndarray, "b n"]) -> Bool[np.ndarray, "b n"]:
    """Return where a value occurs in its row for the first time."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
