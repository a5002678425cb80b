"""Ranks of the validation targets, to choose a setting by: as the rank stage ranks, ties against the target."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.measures.gains import metric_at_k

BARRED = np.float32(-1e30)


def ndcg(ranks: np.ndarray, cutoff: int = 10) -> float:
    """Return the mean NDCG of queries with one target each, whose ranks are given."""
    return float(metric_at_k(ranks, "ndcg", cutoff).mean()) if len(ranks) else 0.0


def sparse_ranks(scores: csr_matrix, ties: np.ndarray, barred: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank where most scores are zero, without making the matrix dense.

    Args:
        scores: positive or absent, float32 [v, n].
        ties: what is added to every row, less than any difference between two scores, float32 [n].
        barred: what is no candidate, bool [v, n].
        targets: int [v].

    Returns:
        int64 [v], 1 = best; n + 1 where the target is no candidate itself.
    """
    queries, items = len(targets), len(ties)
    known = csr_matrix(scores + barred.astype(np.float32) * BARRED)
    known.eliminate_zeros()
    lengths, stored_ties = np.diff(known.indptr), ties[known.indices]
    reached, own = np.asarray(known[np.arange(queries), targets]).ravel(), ties[targets]
    beaten = _per_row(known.data + stored_ties >= np.repeat(np.maximum(reached, 0) + own, lengths), known.indptr)
    as_popular = items - np.searchsorted(np.sort(ties), own)  # items whatever their score, the target included
    as_popular -= _per_row(stored_ties >= np.repeat(own, lengths), known.indptr)
    ranks = beaten + np.where(reached == 0, as_popular, 0)  # either way the target itself makes the 1 of rank 1
    return np.where(reached < BARRED / 2, items + 1, ranks)


def _per_row(flags: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate([[0], np.cumsum(flags, dtype=np.int32)])[indptr])


def dense_ranks(scores: np.ndarray, barred: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank from dense scores [v, n], which are overwritten; as `sparse_ranks`."""
    queries, items = scores.shape
    row = np.repeat(np.arange(queries), np.diff(barred.indptr))
    bar = scores[np.arange(queries), targets].copy()
    scores[row, barred.indices] = -np.inf
    excluded = np.isneginf(scores[np.arange(queries), targets])
    ranks = (scores >= bar[:, None]).sum(axis=1)
    return np.where(excluded, items + 1, ranks)
