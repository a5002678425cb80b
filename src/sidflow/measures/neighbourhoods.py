"""Exact nearest neighbours, and how many of them survive a change of space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import faiss
import numpy as np

from sidflow.measures.directions import unit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Kept(NamedTuple):
    """How much of the neighbourhoods is kept."""

    recall: float  # mean share of an item's k nearest before that are among its k nearest after; NaN without items
    items: int
    k: int


def nearest(
    values: Float[np.ndarray, "n d"], k: int, metric: Literal["euclidean", "cosine"] = "euclidean"
) -> Int[np.ndarray, "n k"]:
    """Return the rows of the k nearest others of every row, nearest first (exact search by faiss).

    Args:
        values: the vectors.
        k: how many, at most n - 1.
        metric: `euclidean`, or `cosine` (rows are scaled to length 1 first).

    Raises:
        ValueError: k is not in 1 to n - 1.
    """
    n = len(values)
    if not 1 <= k <= n - 1:
        raise ValueError(f"k is {k}, but must be in 1 to {n - 1}")
    rows = unit(values) if metric == "cosine" else np.ascontiguousarray(values, dtype=np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)  # type: ignore[call-arg]  # faiss's own wrapper
    found = index.search(rows, k + 1)[1]  # type: ignore[call-arg]
    itself = found == np.arange(n)[:, None]
    itself[~itself.any(axis=1), -1] = True  # more than k duplicates: any k of them are right
    return found[~itself].reshape(n, k)


def kept(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    k: int = 10,
    present: Bool[np.ndarray, " n"] | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> Kept:
    """Return the mean share of the k nearest neighbours before that are still among the k nearest after."""
    rows = np.arange(len(original)) if present is None else np.flatnonzero(present)
    k = min(k, len(rows) - 1)
    if k < 1:
        return Kept(float("nan"), len(rows), max(k, 0))
    before, after = nearest(original[rows], k, metric), nearest(changed[rows], k, metric)
    shift = np.arange(len(rows))[:, None] * len(rows)  # one integer names (item, neighbour)
    return Kept(float(np.isin(before + shift, after + shift).mean()), len(rows), k)
