"""Ranks of the validation targets, to choose a setting by: history excluded, ties against the target."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

SEEN = np.float32(-1e30)


def ndcg(ranks: np.ndarray, cutoff: int = 10) -> float:
    """Return the mean of 1 / log2(1 + rank) where rank <= cutoff, else 0; one target a query."""
    if not len(ranks):
        return 0.0
    return float(np.where(ranks <= cutoff, 1 / np.log2(1.0 + ranks), 0.0).mean())


def sparse_ranks(scores: csr_matrix, ties: np.ndarray, seen: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank where most scores are zero, without making the matrix dense.

    Args:
        scores: non-negative, float32 [v, n].
        ties: what is added to every row, less than any difference between two scores, float32 [n].
        seen: what is no candidate, bool [v, n].
        targets: int [v].

    Returns:
        int64 [v], 1 = best; n + 1 where the target is no candidate itself.
    """
    queries, items = len(targets), len(ties)
    known = csr_matrix(scores + seen.astype(np.float32) * SEEN)
    row = np.repeat(np.arange(queries), np.diff(known.indptr))
    reached = np.asarray(known[np.arange(queries), targets]).ravel()
    bar = np.maximum(reached, 0) + ties[targets]
    other = known.indices != targets[row]
    beats = other & (known.data > SEEN / 2) & (known.data + ties[known.indices] >= bar[row])
    ranks = 1 + np.bincount(row[beats], minlength=queries)
    ordered = np.sort(ties)
    as_popular = items - np.searchsorted(ordered, ties[targets]) - 1  # other items, whatever their score
    stored = other & (ties[known.indices] >= ties[targets][row])
    unscored = as_popular - np.bincount(row[stored], minlength=queries)
    ranks = ranks + np.where(reached == 0, unscored, 0)
    return np.where(reached < SEEN / 2, items + 1, ranks)


def dense_ranks(scores: np.ndarray, seen: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank from dense scores [v, n], which are overwritten; as `sparse_ranks`."""
    queries, items = scores.shape
    row = np.repeat(np.arange(queries), np.diff(seen.indptr))
    bar = scores[np.arange(queries), targets].copy()
    scores[row, seen.indices] = -np.inf
    excluded = np.isneginf(scores[np.arange(queries), targets])
    ranks = (scores >= bar[:, None]).sum(axis=1)
    return np.where(excluded, items + 1, ranks)
