"""Ranking metrics with one target per query; coverage, concentration and novelty of recommendation lists.

With one target, recall at k is the hit rate, nDCG at k is 1 / log2(rank + 1) and MRR at k is 1 / rank; 0 beyond k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Integer


Metric = Literal["recall", "ndcg", "mrr"]
METRICS: tuple[Metric, ...] = ("recall", "ndcg", "mrr")


def rank_weights(metric: Metric, k: int) -> Float[np.ndarray, " k"]:
    """Return the metric's value for a target at each of the ranks 1 to k: 1, 1 / log2(rank + 1), or 1 / rank."""
    ranks = np.arange(1, k + 1, dtype=np.float64)
    if metric == "recall":
        return np.ones(k)
    return 1 / np.log2(ranks + 1) if metric == "ndcg" else 1 / ranks


def metric_at_k(
    ranks: Integer[np.ndarray, " q"], metric: Metric, k: int, sharing: Integer[np.ndarray, " q"] | None = None
) -> Float[np.ndarray, " q"]:
    """Return the metric at cutoff k of every query, from 0 to 1.

    Args:
        ranks: of the targets, 1 = best.
        metric: recall, ndcg or mrr.
        k: the cutoff.
        sharing: other items that share the target's rank, the last of the tie. The value is then the mean over the
            ranks of the tie, as if it was broken at random.
    """
    values = np.concatenate([rank_weights(metric, k), [0.0]])
    single = values[np.clip(ranks, 1, k + 1) - 1]
    if sharing is None:
        return single
    sums = np.concatenate([[0.0], np.cumsum(values[:k])])  # of the first 0, 1, ..., k ranks
    mean = (sums[np.clip(ranks, 0, k)] - sums[np.clip(ranks - 1 - sharing, 0, k)]) / (sharing + 1)
    return np.where(sharing == 0, single, mean)


def log2_rank(
    ranks: Integer[np.ndarray, " q"], sharing: Integer[np.ndarray, " q"] | None = None
) -> Float[np.ndarray, " q"]:
    """Return the log2 of every query's rank, 0 = first; over a tie its mean, with `sharing` as in `metric_at_k`."""
    if sharing is None:
        return np.log2(ranks)
    sums = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, ranks.max(initial=0) + 1)))])  # of the first ranks
    return np.where(sharing == 0, np.log2(ranks), (sums[ranks] - sums[ranks - 1 - sharing]) / (sharing + 1))


def expected_metric_at_k(
    items: Integer[np.ndarray, "q top"], probabilities: Float[np.ndarray, "q n"], metric: Metric, k: int
) -> Float[np.ndarray, " q"]:
    """Return the metric's expectation over targets drawn from `probabilities`.

    Args:
        items: the recommended items, best first; -1 is no item and adds nothing.
        probabilities: of every item to be the target.
        metric: recall, ndcg or mrr.
        k: the cutoff.
    """
    top = items[:, :k]
    probability = np.take_along_axis(probabilities, np.maximum(top, 0), axis=1).astype(np.float64)
    return np.where(top >= 0, probability, 0.0) @ rank_weights(metric, k)[: top.shape[1]]


def best_expected_metric_at_k(
    probabilities: Float[np.ndarray, "q n"], metric: Metric, k: int
) -> Float[np.ndarray, " q"]:
    """Return the highest expectation that any list can have: that of the k most probable items in order."""
    n = probabilities.shape[1]
    width = min(k, n)
    top = -np.sort(-np.partition(probabilities, n - width, axis=1)[:, n - width :], axis=1)
    return top.astype(np.float64) @ rank_weights(metric, k)[:width]


def exposure_counts(items: Integer[np.ndarray, "q k"], catalogue: int) -> Float[np.ndarray, " n"]:
    """Return how often each of `catalogue` items is recommended; -1 is no item."""
    return np.bincount(items[items >= 0], minlength=catalogue).astype(np.float64)


def catalogue_coverage(exposure: Float[np.ndarray, " n"]) -> float:
    """Return the share of items that are recommended at all, 0 to 1."""
    return float((exposure > 0).mean()) if len(exposure) else 0.0


def gini(counts: Float[np.ndarray, " n"]) -> float:
    """Return the Gini index of counts, for example of exposure: 0 = all equal, towards 1 = one item has everything."""
    n, total = len(counts), counts.sum()
    if n == 0 or total == 0:
        return 0.0
    ordered = np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def novelty(items: Integer[np.ndarray, "q k"], counts: Integer[np.ndarray, " n"]) -> float:
    """Return the mean self-information of recommended items in bits: -log2 of their share of training events.

    Args:
        items: the recommended items; -1 is no item.
        counts: training events of every item; one event is added to each.
    """
    information = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    recommended = items[items >= 0]
    return float(information[recommended].mean()) if len(recommended) else 0.0
