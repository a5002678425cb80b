"""Sequences, queries and targets as flat arrays: the input of every recommender."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS, VALID
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.sequences.slices import HistorySlices

EXCLUDE = "rank.exclude_history"


class Histories(NamedTuple):
    """All users' ordered items in one array, and the queries that cut them.

    User u's items are `items[offsets[u]:offsets[u + 1]]`; the first `train_end[u]` of them may be trained on;
    query q asks what follows the first `query_end[q]` items of user `query_user[q]`.
    """

    items: np.ndarray  # int32 [events]
    offsets: np.ndarray  # int64 [users + 1]
    train_end: np.ndarray  # int64 [users]
    query_user: np.ndarray  # int64 [q]
    query_end: np.ndarray  # int64 [q]
    query_valid: np.ndarray  # bool [q], True for validation, False for test
    targets: np.ndarray  # int64 [q]
    exclude_history: bool = True  # items of a query's history are no candidates
    query_position: np.ndarray | None = None  # int64 [q]: of the target, before any event was dropped; None = query_end
    test_start: np.ndarray | None = None  # int64 [users]: of the test part; None: at a user's first test query

    @property
    def user_count(self) -> int:
        """Number of users."""
        return len(self.train_end)

    @property
    def query_count(self) -> int:
        """Number of queries, both parts."""
        return len(self.query_user)

    @property
    def target_position(self) -> np.ndarray:
        """Position of each query's target in the catalogue's interactions, int64 [q]."""
        return self.query_end if self.query_position is None else self.query_position

    def training_items(self, user: int) -> np.ndarray:
        """Return the items of `user` that models may train on."""
        start = self.offsets[user]
        return self.items[start : start + self.train_end[user]]

    def history(self, query: int) -> np.ndarray:
        """Return the items that a model sees when it answers `query`."""
        start = self.offsets[self.query_user[query]]
        return self.items[start : start + self.query_end[query]]

    def query_slices(self, queries: np.ndarray | None = None) -> HistorySlices:
        """Return the histories of `queries`, or of all."""
        rows = slice(None) if queries is None else queries
        start = self.offsets[self.query_user[rows]]
        return HistorySlices(self.items, start, start + self.query_end[rows])

    def training_events(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (user, item) of every training event in order, int64 [events] each."""
        start = self.offsets[:-1]
        return HistorySlices(self.items, start, start + self.train_end).events()

    def before_test(self) -> Histories:
        """Return the histories of a second fit: training parts end before the test parts; no validation queries.

        Where a user has no test query, the training part ends with the last validation target.
        """
        is_test = ~self.query_valid
        end = self.train_end.copy()
        np.maximum.at(end, self.query_user[self.query_valid], self.query_end[self.query_valid] + 1)
        first_test = np.diff(self.offsets) if self.test_start is None else self.test_start.copy()
        np.minimum.at(first_test, self.query_user[is_test], self.query_end[is_test])
        has_test = np.isin(np.arange(self.user_count), self.query_user[is_test])
        return self._replace(
            train_end=np.where(has_test, first_test, end),
            query_user=self.query_user[is_test],
            query_end=self.query_end[is_test],
            query_position=None if self.query_position is None else self.query_position[is_test],
            query_valid=self.query_valid[is_test],
            targets=self.targets[is_test],
        )

    def training_counts(self, items: int) -> np.ndarray:
        """Return how often each of `items` items occurs in training parts, int64 [items]."""
        return np.bincount(self.training_events()[1], minlength=items)

    def seen(self, items: int, queries: np.ndarray | None = None) -> csr_matrix:
        """Return which of `items` items are in each query's history, bool CSR [q, items]."""
        histories = self.query_slices(queries)
        _, columns = histories.events()
        indptr = np.concatenate([[0], np.cumsum(histories.stop - histories.start)])
        shape = (len(histories.stop), items)
        matrix = csr_matrix((np.ones(len(columns), dtype=bool), columns, indptr), shape=shape)
        matrix.sum_duplicates()
        return matrix

    def targets_seen(self, items: int) -> np.ndarray:
        """Return whether each query's target is in its history, bool [q]."""
        return np.asarray(self.seen(items)[np.arange(self.query_count), self.targets]).ravel()

    def excluded(self, items: int, queries: np.ndarray | None = None) -> csr_matrix:
        """Return which of `items` items are no candidates of each query, bool CSR [q, items]."""
        seen = self.seen(items, queries)
        return seen if self.exclude_history else csr_matrix(seen.shape, dtype=bool)


def evenly_spread(values: np.ndarray, at_most: int) -> np.ndarray:
    """Return `values`, or `at_most` evenly spread ones, the first and the last among them, where there are more."""
    if len(values) <= at_most:
        return values
    return values[np.linspace(0, len(values) - 1, at_most).round().astype(np.int64)]


def load_histories() -> Histories:
    """Read the artifacts of `split`.

    Raises:
        InputError: one of them is absent or broken.
    """
    sequences, queries, targets = SEQUENCES.read(), QUERIES.read(), TARGETS.read()
    lengths = sequences["items"].list.len().to_numpy().astype(np.int64)
    return Histories(
        items=sequences["items"].explode(empty_as_null=False).to_numpy().astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=sequences["train_end"].to_numpy().astype(np.int64),
        query_user=queries["user_id"].to_numpy().astype(np.int64),
        query_end=queries["history_end"].to_numpy().astype(np.int64),
        query_valid=(queries["part"] == VALID).to_numpy(),
        targets=targets["item_id"].to_numpy().astype(np.int64),
        query_position=_optional(queries, "position"),
        test_start=_optional(sequences, "test_start"),
    )


def load_histories_for_ranking() -> Histories:
    """Read the artifacts of `split`, and from params whether ranking excludes histories.

    Raises:
        InputError: an artifact is absent or broken, or `rank.exclude_history` is neither true nor false.
    """
    return load_histories()._replace(exclude_history=load_exclude_history())


def load_exclude_history() -> bool:
    """Return whether params say that items of a query's history are no candidates.

    Raises:
        InputError: `rank.exclude_history` is neither true nor false.
    """
    exclude = params.load_param(EXCLUDE)
    if not isinstance(exclude, bool):
        raise InputError(
            f"{params.PARAMS_PATH}:{EXCLUDE}", expected="true or false", found=repr(exclude), remedy="correct it"
        )
    return exclude


def require_next_items(count: int) -> None:
    """Check that there is something to train on: histories with an item that follows another.

    Raises:
        InputError: `count`, of users or windows with two training items or more, is 0.
    """
    if not count:
        raise InputError(
            "artifacts/split/sequences.parquet",
            expected="users with two training items or more",
            found="none",
            remedy="lower the k-core threshold, or take more data",
        )


def _optional(table: pl.DataFrame, column: str) -> np.ndarray | None:
    return table[column].to_numpy().astype(np.int64) if column in table.columns else None
