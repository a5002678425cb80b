"""The sampled protocol's negatives: fixed by seed, independent of the model and of how queries are batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sidflow.contracts.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Int32

_CHUNK = 2_048  # queries drawn at once; part of what the draw is, not a setting


def draw(histories: Histories, items: int, count: int, seed: int) -> Int32[np.ndarray, "q count"]:
    """Return distinct items for every query, uniform among those that are neither in its history nor its target.

    Where fewer than `count` items are left, all of them are taken and the row ends in -1.
    """
    generator = np.random.default_rng(seed)
    drawn = np.full((histories.queries, count), -1, dtype=np.int32)
    for start in range(0, histories.queries, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, histories.queries))
        barred = np.asarray(histories.seen(items, rows).todense())
        barred[np.arange(len(rows)), histories.targets[rows]] = True
        guesses = generator.integers(items, size=(len(rows), 2 * count + 16))
        usable = ~barred[np.arange(len(rows))[:, None], guesses] & _first_of_its_kind(guesses)
        place = np.cumsum(usable, axis=1) - 1
        keep = usable & (place < count)
        row, column = np.nonzero(keep)
        drawn[start + row, place[row, column]] = guesses[row, column]
        for short in np.flatnonzero(usable.sum(axis=1) < count):  # small catalogues, long histories
            free = np.flatnonzero(~barred[short])
            chosen = generator.permutation(free)[:count]
            drawn[start + short] = -1
            drawn[start + short, : len(chosen)] = chosen
    return drawn


def _first_of_its_kind(guesses: np.ndarray) -> np.ndarray:
    order = np.argsort(guesses, axis=1, kind="stable")
    ordered = np.take_along_axis(guesses, order, axis=1)
    new = np.ones(guesses.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first
