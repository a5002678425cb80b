"""Histories as slices of one array, and the positions of events in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from jaxtyping import Float, Int


NO_ITEM = -1  # where a history is shorter than the number of items that are looked at


def rows_and_positions(lengths: Int[np.ndarray, " p"]) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Return the row of each element and its position in that row, for rows of `lengths` one after another."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row, np.arange(len(row)) - (np.cumsum(lengths) - lengths)[row]


class HistorySlices(NamedTuple):
    """Histories inside one array of items: history p is `items[start[p]:stop[p]]`, oldest first."""

    items: Int[np.ndarray, " events"]
    start: Int[np.ndarray, " p"]
    stop: Int[np.ndarray, " p"]

    def rows(self, rows: slice | np.ndarray) -> HistorySlices:
        """Return the histories `rows`."""
        return HistorySlices(self.items, self.start[rows], self.stop[rows])

    def last_items(self, count: int) -> Int[np.ndarray, "p count"]:
        """Return the items 1, 2, ... `count` steps back, NO_ITEM where there are fewer."""
        index = self.stop[:, None] - 1 - np.arange(count)
        present = index >= self.start[:, None]
        last_items = np.full(index.shape, NO_ITEM, dtype=np.int64)
        last_items[present] = self.items[index[present]]
        return last_items

    def events(self) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
        """Return the history and the item of every event, history by history, oldest first."""
        row, position = rows_and_positions(self.stop - self.start)
        return row, self.items[self.start[row] + position].astype(np.int64)


def new_histories(histories: Sequence[Sequence[int] | np.ndarray]) -> HistorySlices:
    """Return `histories`, each its item ids, oldest first, as slices of one array."""
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    items = [np.asarray(history, dtype=np.int64) for history in histories]
    stop = np.cumsum(lengths)
    return HistorySlices(np.concatenate(items) if items else np.zeros(0, dtype=np.int64), stop - lengths, stop)


def weighted_last_items(
    last_items: Int[np.ndarray, "p last"], weights: Float[np.ndarray, " last"], items: int
) -> csr_matrix:
    """Return the last items of histories, weighted by steps back, float32 CSR [p, n]; an item twice is two entries.

    Args:
        last_items: as `HistorySlices.last_items` returns them; those outside the core have no weight.
        weights: of the last item, of the one before it, and so on.
        items: n, of the core.
    """
    in_core = (last_items >= 0) & (last_items < items)
    values = np.broadcast_to(weights, last_items.shape)[in_core].astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(in_core.sum(1))])
    return csr_matrix((values, last_items[in_core], indptr), shape=(len(last_items), items))


def recent_items(histories: HistorySlices, weights: Float[np.ndarray, " last"], items: int) -> csr_matrix:
    """Return the same of the last items of `histories`, as many as there are weights; an item twice has the sum."""
    weights = weights[: int((histories.stop - histories.start).max(initial=0))]
    matrix = weighted_last_items(histories.last_items(len(weights)), weights, items)
    matrix.sum_duplicates()
    return matrix
