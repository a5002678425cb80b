"""Which items stand how near one another in the users' sequences."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.recommenders.counting.events import Events


def followers(events: Events, distance: int) -> csr_matrix:
    """Return how often item j comes exactly `distance` steps after item i, float32 CSR [n, n]."""
    same = events.user[:-distance] == events.user[distance:]
    before, after = events.item[:-distance][same], events.item[distance:][same]
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
    total = csr_matrix((events.items, events.items), dtype=np.float32)
    for distance, weight in enumerate(weights, start=1):
        total = total + followers(events, distance) * np.float32(weight)
    if backward:
        total = total + total.T * np.float32(backward)
    return csr_matrix(total)
