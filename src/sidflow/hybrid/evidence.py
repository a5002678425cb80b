"""Co-occurrence evidence: a score of every item given a history's last items, counted in other users' histories.

In training the evidence is cross-fitted. Users are split into folds; a training position sees counts of all folds but
its user's own, so that no transition gives evidence for itself. Queries see counts of all users' training parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.core.hashing import mix_bits
from sidflow.hybrid.params import ScorePriorParams
from sidflow.sequences.cooccurrence import (
    Events,
    damped_cooccurrence,
    decaying_weights,
    strongest_per_row,
    training_events,
)
from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import HistorySlices, weighted_last_items

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class TrainingPositions(NamedTuple):
    """Training positions: the history of each, its user, and the item that it predicts."""

    histories: HistorySlices
    user: Int[np.ndarray, " p"]
    target: Int[np.ndarray, " p"]

    def masked_items(self) -> tuple[Int[np.ndarray, " p_plus_1"], Int[np.ndarray, " nonzero"]]:
        """Return the items of each history but its target, as CSR index pointers and columns."""
        row, items = self.histories.events()
        keep = items != self.target[row]
        counts = np.bincount(row[keep], minlength=len(self.target))
        return np.concatenate([[0], np.cumsum(counts)]), items[keep]


def training_positions(
    histories: Histories, last_event: Int[np.ndarray, " p"], target_event: Int[np.ndarray, " p"]
) -> TrainingPositions:
    """Return the positions whose histories end with `last_event` and that predict `target_event`.

    A history holds all events of its user up to `last_event`, also those outside the base model's window. It is empty
    where `last_event` is before the user's first event.
    """
    user = np.searchsorted(histories.offsets, target_event, side="right") - 1
    slices = HistorySlices(histories.items, histories.offsets[user], last_event + 1)
    return TrainingPositions(slices, user, histories.items[target_event].astype(np.int64))


def at_candidates(evidence: csr_matrix, targets: Int[np.ndarray, " p"], negatives: Int[np.ndarray, " m"]) -> csr_matrix:
    """Return the entries of `evidence` [p, n] at each row's own target, then at `negatives`, CSR [p, 1 + m]."""
    target_column = csr_matrix(evidence[np.arange(len(targets)), targets]).T
    return csr_matrix(sparse.hstack([target_column, evidence[:, negatives]], format="csr"))


def user_folds(users: Int[np.ndarray, " u"], folds: int) -> Int[np.ndarray, " u"]:
    """Return each user's fold by a hash of the id (ids are sorted by key, so that neighbours may be similar)."""
    mixed = mix_bits((users.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (mixed % np.uint64(folds)).astype(np.int64)


class CrossFittedCounts(NamedTuple):
    """The evidence that one item gives for another, counted without each fold of users and over all of them."""

    relations: csr_matrix  # float32 [(folds + 1) * n, n]: without fold 0, without fold 1, ..., of all users
    recency: Float[np.ndarray, " last"]  # weight of an item by its steps back
    fold: Int[np.ndarray, " users"]
    items: int  # of the core
    all_users: int  # the part of `relations` that no fold is left out of

    def relation(self) -> csr_matrix:
        """Return the evidence of all users' training parts, float32 [n, n]."""
        return csr_matrix(self.relations[self.all_users * self.items :])

    def evidence(self, last_items: Int[np.ndarray, "p last"], part: Int[np.ndarray, " p"] | int) -> csr_matrix:
        """Return K: the evidence of each history's last items for every core item, exact, float32 CSR [p, n].

        Args:
            last_items: as `HistorySlices.last_items` returns them; items outside the core give no evidence.
            part: the fold whose users are left out, or `all_users`.
        """
        weights = weighted_last_items(last_items, self.recency, self.items)
        parts = np.repeat(np.broadcast_to(part, len(last_items)), np.diff(weights.indptr))
        entries = (weights.data, weights.indices + parts * self.items, weights.indptr)
        shape = (len(last_items), (self.all_users + 1) * self.items)
        evidence = csr_matrix(csr_matrix(entries, shape=shape) @ self.relations)
        evidence.sort_indices()
        return evidence


def count_cooccurrence(histories: Histories, items: int, params: ScorePriorParams) -> CrossFittedCounts:
    """Return co-occurrence of `items` core items in the training parts, without each fold and over all users."""
    training = training_events(histories, items)
    fold = user_folds(np.arange(histories.user_count), params.folds)
    weights = decaying_weights(params.window, params.decay)

    def relation(mask: np.ndarray) -> csr_matrix:
        events = Events(training.user[mask], training.item[mask], items)
        return strongest_per_row(
            damped_cooccurrence(events, weights, params.backward, params.damping), params.neighbours
        )

    fold_of_event = fold[training.user]
    parts = [relation(fold_of_event != left_out) for left_out in range(params.folds)] + [relation(fold_of_event >= 0)]
    relations = csr_matrix(sparse.vstack(parts, format="csr"))
    return CrossFittedCounts(relations, decaying_weights(params.last, params.recency), fold, items, params.folds)
