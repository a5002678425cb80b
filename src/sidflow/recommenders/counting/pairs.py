"""Which items stand how near one another in the users' sequences."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.recommenders.counting.events import Events


def at_distance(events: Events, distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all (earlier item, later item) of one user that are exactly `distance` steps apart."""
    same = events.user[:-distance] == events.user[distance:]
    return events.item[:-distance][same], events.item[distance:][same]


def followers(events: Events, distance: int) -> csr_matrix:
    """Return how often item j comes exactly `distance` steps after item i, float32 CSR [n, n]."""
    before, after = at_distance(events, distance)
    ones = np.ones(len(before), dtype=np.float32)
    return csr_matrix((ones, (before, after)), shape=(events.items, events.items))


def cooccurrence(events: Events, weights: np.ndarray, backward: float) -> csr_matrix:
    """Return the weighted number of times that items stand near one another.

    Args:
        events: what to count in.
        weights: [window], of a pair at distance 1, 2, ...
        backward: weight of "j before i" against "i before j": 0 counts only what follows, 1 makes it symmetric.

    Returns:
        float32 CSR [n, n]: the evidence that item i gives for item j, by row i.
    """
    before, after, values = [], [], []
    for distance, weight in enumerate(weights, start=1):
        first, second = at_distance(events, distance)
        before += [first, second] if backward else [first]
        after += [second, first] if backward else [second]
        values += [np.full(len(first), share) for share in ([weight, weight * backward] if backward else [weight])]
    entries = np.concatenate(values).astype(np.float32), (np.concatenate(before), np.concatenate(after))
    return csr_matrix(entries, shape=(events.items, events.items))
