"""What a counting model sees: the events that it is fitted on, and the last items of every query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.contracts.histories import Histories


class Events(NamedTuple):
    """The interactions that a model is fitted on, user by user in order."""

    user: np.ndarray  # int64 [events]
    item: np.ndarray  # int64 [events]
    items: int  # size of the catalogue's core

    def counts(self) -> np.ndarray:
        """Return how often each item occurs, int64 [n]."""
        return np.bincount(self.item, minlength=self.items)

    def incidence(self) -> csr_matrix:
        """Return which user interacted with which item, float32 ones, CSR [users, n]."""
        users = int(self.user.max()) + 1 if len(self.user) else 0
        ones = np.ones(len(self.user), dtype=np.float32)
        matrix = csr_matrix((ones, (self.user, self.item)), shape=(users, self.items))
        matrix.data[:] = 1
        return matrix


def training_events(histories: Histories, items: int) -> Events:
    """Return the events of all training parts."""
    return Events(*histories.training_events(), items)


def recent_items(histories: Histories, items: int, last: int, weights: np.ndarray) -> csr_matrix:
    """Return the last items of every query's history, weighted by how many steps back they are.

    Args:
        histories: all queries; a row each.
        items: number of columns.
        last: how many items back to look, at least 1.
        weights: [last], of the last item, of the one before it, and so on; an item that occurs twice gets both.

    Returns:
        float32 CSR [q, items]; the row of an empty history is zero.
    """
    count = np.minimum(histories.query_end, last)
    indptr = np.concatenate([[0], np.cumsum(count)])
    steps = np.arange(indptr[-1]) - np.repeat(indptr[:-1], count)  # 0 = the last item
    ends = histories.offsets[histories.query_user] + histories.query_end
    columns = histories.items[np.repeat(ends, count) - 1 - steps]
    matrix = csr_matrix((weights[steps].astype(np.float32), columns, indptr), shape=(histories.query_count, items))
    matrix.sum_duplicates()
    return matrix
