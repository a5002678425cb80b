"""Ranking metrics with one target a query: what a rank earns, and what a list earns under known probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Integer

Metric = Literal["recall", "ndcg", "mrr"]
METRICS: tuple[Metric, ...] = ("recall", "ndcg", "mrr")


def weights(metric: Metric, k: int) -> Float[np.ndarray, " k"]:
    """Return what the target earns at the ranks 1 to k: 1, 1/log2(rank + 1), or 1/rank."""
    ranks = np.arange(1, k + 1, dtype=np.float64)
    if metric == "recall":
        return np.ones(k)
    return 1 / np.log2(ranks + 1) if metric == "ndcg" else 1 / ranks


def gain(ranks: Integer[np.ndarray, " q"], metric: Metric, k: int) -> Float[np.ndarray, " q"]:
    """Return each query's recall (with one target: hit rate), ndcg or reciprocal rank at k, from 0 to 1."""
    earned = np.concatenate([weights(metric, k), [0.0]])
    return earned[np.clip(ranks, 1, k + 1) - 1]


def expected(
    items: Integer[np.ndarray, "q top"], probabilities: Float[np.ndarray, "q n"], metric: Metric, k: int
) -> Float[np.ndarray, " q"]:
    """Return what each list earns in the mean over targets drawn from `probabilities`; -1 in `items` earns nothing."""
    listed = items[:, :k]
    chance = np.take_along_axis(probabilities, np.maximum(listed, 0), axis=1).astype(np.float64)
    return np.where(listed >= 0, chance, 0.0) @ weights(metric, k)[: listed.shape[1]]


def best_expected(probabilities: Float[np.ndarray, "q n"], metric: Metric, k: int) -> Float[np.ndarray, " q"]:
    """Return what the best possible list earns in the mean: the k most probable items in order."""
    n = probabilities.shape[1]
    width = min(k, n)
    top = -np.sort(-np.partition(probabilities, n - width, axis=1)[:, n - width :], axis=1)
    return top.astype(np.float64) @ weights(metric, k)[:width]
