"""Co-occurrence counts of items in training sequences, exact in float32.

Counts and weights are multiples of a power of two, so that float32 adds them without rounding, in any order and on
any machine, up to 2**24 of the smallest step: equal evidence gives equal scores. The popularity of an item then comes
on top, scaled by a power of two to less than one step: it is exact itself, and since rounding a sum is monotone it can
decide between equal scores only. Where a score needs more than 24 bits the last bits of popularity are lost, and such
items stay tied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import rows_and_positions

WEIGHT_BITS = 7  # of a weight's fraction: 1/3 becomes 43/128
SCORE_STEP = 2.0 ** (-2 * WEIGHT_BITS)  # the smallest difference between two sums of products of two such weights


def round_to_dyadic(weights: np.ndarray, bits: int = WEIGHT_BITS) -> np.ndarray:
    """Return the weights as multiples of 2**-bits, float32; positive ones stay positive."""
    scale = 2.0**bits
    return (np.where(weights > 0, np.maximum(np.round(weights * scale), 1), 0) / scale).astype(np.float32)


def decaying_weights(length: int, decay: float) -> np.ndarray:
    """Return 1, 2**-decay, 3**-decay, ... as exact weights, float32 [length]."""
    return round_to_dyadic(np.arange(1, length + 1, dtype=np.float64) ** -decay)


def tie_breaks(counts: np.ndarray, step: float) -> np.ndarray:
    """Return `counts`, non-negative integers, scaled by a power of two to less than `step`, float32 [n]."""
    largest = int(counts.max(initial=0))
    return (counts * (step * 2.0 ** -largest.bit_length())).astype(np.float32)


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


def tie_broken_factors(evidence: csr_matrix, relation: csr_matrix, events: Events, step: float) -> ScoreFactors:
    """Return the factors of the scores `evidence` @ `relation`, with popularity as the tie break.

    Args:
        evidence: of each query, CSR [q, n].
        relation: the evidence that an item gives for others, CSR [n, n].
        events: what popularity is counted in.
        step: the smallest difference between two scores.
    """
    ones = np.ones((len(evidence.indptr) - 1, 1), dtype=np.float32)
    return ScoreFactors(ones, tie_breaks(events.counts(), step)[:, None], evidence, relation)


def training_events(histories: Histories, items: int) -> Events:
    """Return the events of all training parts."""
    return Events(*histories.training_events(), items)


def pairs_at_distance(events: Events, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all (earlier item, later item) of one user that are exactly `distance` steps apart."""
    same = events.user[:-distance] == events.user[distance:]
    return events.item[:-distance][same], events.item[distance:][same]


def follower_counts(events: Events, distance: int) -> csr_matrix:
    """Return how often item j comes exactly `distance` steps after item i, float32 CSR [n, n]."""
    before, after = pairs_at_distance(events, distance)
    ones = np.ones(len(before), dtype=np.float32)
    return csr_matrix((ones, (before, after)), shape=(events.items, events.items))


def cooccurrence_counts(events: Events, weights: np.ndarray, backward: float) -> csr_matrix:
    """Return the weighted number of times that items occur near one another.

    Args:
        events: the events to count.
        weights: [window], of a pair at distance 1, 2, ...
        backward: weight of "j before i" against "i before j": 0 counts later items only, 1 makes it symmetric.

    Returns:
        float32 CSR [n, n]: the evidence that item i gives for item j, by row i.
    """
    total = csr_matrix((events.items, events.items), dtype=np.float32)
    for distance, weight in enumerate(weights, start=1):  # one at a time: all pairs of all distances would not fit
        counts = follower_counts(events, distance)
        total += counts * np.float32(weight)
        if backward:
            total += counts.T * np.float32(weight * backward)
    return total


def damped_cooccurrence(events: Events, weights: np.ndarray, backward: float, damping: float) -> csr_matrix:
    """Return the evidence that item i gives for item j: co-occurrence over popularity(i)**damping, exact weights.

    Args:
        events: the events to count.
        weights: [window], of a pair at distance 1, 2, ...
        backward: weight of "j before i" against "i before j".
        damping: 0 to 1; exponent by which a frequent item's evidence is reduced.

    Returns:
        float32 CSR [n, n].
    """
    counts = cooccurrence_counts(events, weights, backward)
    item_weights = np.maximum(events.counts(), 1).astype(np.float64) ** -damping
    counts.data = round_to_dyadic(counts.data * np.repeat(item_weights, np.diff(counts.indptr)))
    return counts


def strongest_per_row(relation: csr_matrix, per_row: int) -> csr_matrix:
    """Return the `per_row` largest entries of every row, lower columns first among equals.

    Args:
        relation: nothing below zero.
        per_row: entries kept in each row.
    """
    matrix = csr_matrix(relation)
    matrix.sum_duplicates()
    lengths = np.diff(matrix.indptr)
    if lengths.max(initial=0) <= per_row:
        return matrix
    rows, rank = rows_and_positions(lengths)
    order = np.lexsort((matrix.indices, np.negative(matrix.data), rows))
    strongest = np.sort(order[rank < per_row])
    return csr_matrix((matrix.data[strongest], (rows[strongest], matrix.indices[strongest])), shape=matrix.shape)
