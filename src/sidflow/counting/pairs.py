"""Counts of items that occur near one another in the users' sequences."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.counting.events import Events
from sidflow.counting.ties import round_to_dyadic


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
        events: what to count in.
        weights: [window], of a pair at distance 1, 2, ...
        backward: weight of "j before i" against "i before j": 0 counts only what follows, 1 makes it symmetric.

    Returns:
        float32 CSR [n, n]: the evidence that item i gives for item j, by row i.
    """
    before, after, values = [], [], []
    for distance, weight in enumerate(weights, start=1):
        first, second = pairs_at_distance(events, distance)
        before += [first, second] if backward else [first]
        after += [second, first] if backward else [second]
        values += [np.full(len(first), share) for share in ([weight, weight * backward] if backward else [weight])]
    entries = np.concatenate(values).astype(np.float32), (np.concatenate(before), np.concatenate(after))
    return csr_matrix(entries, shape=(events.items, events.items))


def damped_cooccurrence(events: Events, weights: np.ndarray, backward: float, damping: float) -> csr_matrix:
    """Return the evidence that item i gives for item j: co-occurrence over popularity(i)**damping, exact weights.

    Args:
        events: what to count in.
        weights: [window], of a pair at distance 1, 2, ...
        backward: weight of "j before i" against "i before j".
        damping: 0 to 1; how much a frequent item's evidence is taken back.

    Returns:
        float32 CSR [n, n].
    """
    counted = cooccurrence_counts(events, weights, backward)
    rows = np.repeat(np.arange(events.items), np.diff(counted.indptr))
    common = np.maximum(events.counts(), 1).astype(np.float64) ** -damping
    counted.data = round_to_dyadic(counted.data * common[rows])
    return counted


def strongest_per_row(relation: csr_matrix, kept: int) -> csr_matrix:
    """Return the `kept` largest entries of every row, lower columns first among equals.

    Args:
        relation: [n, n], nothing below zero.
        kept: entries a row.
    """
    matrix = csr_matrix(relation)
    matrix.sum_duplicates()
    count = len(matrix.indptr) - 1
    lengths = np.diff(matrix.indptr)
    if lengths.max(initial=0) <= kept:
        return matrix
    rows = np.repeat(np.arange(count), lengths)
    order = np.lexsort((matrix.indices, np.negative(matrix.data), rows))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    strongest = np.sort(order[rank < kept])
    return csr_matrix((matrix.data[strongest], (rows[strongest], matrix.indices[strongest])), shape=(count, count))
