"""Exact nearest neighbours, and the share of them that another space keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import faiss
import numpy as np

from sidflow.measures.directions import unit_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class NeighbourRecall(NamedTuple):
    """Recall of nearest neighbours, and what it was measured over."""

    recall: float  # mean share of an item's k nearest before that are among its k nearest after; NaN without items
    items: int
    k: int  # at most items - 1


def nearest_neighbours(
    values: Float[np.ndarray, "n d"], k: int, metric: Literal["euclidean", "cosine"] = "euclidean"
) -> Int[np.ndarray, "n k"]:
    """Return the k nearest other rows of every row, nearest first (exact search by faiss).

    Args:
        values: the vectors.
        k: number of neighbours, 1 to n - 1.
        metric: `euclidean`, or `cosine` (rows are scaled to length 1 first).

    Raises:
        ValueError: k is not in 1 to n - 1.
    """
    n = len(values)
    if not 1 <= k <= n - 1:
        raise ValueError(f"k is {k}, but must be in 1 to {n - 1}")
    rows = unit_rows(values) if metric == "cosine" else np.ascontiguousarray(values, dtype=np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)  # type: ignore[call-arg]  # faiss's own wrapper
    neighbours = index.search(rows, k + 1)[1]  # type: ignore[call-arg]
    is_self = neighbours == np.arange(n)[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # more than k duplicates: any k of them are right
    return neighbours[~is_self].reshape(n, k)


def neighbour_recall(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    k: int = 10,
    present: Bool[np.ndarray, " n"] | None = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> NeighbourRecall:
    """Return the mean share of the k nearest neighbours before that are still among the k nearest after.

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        k: number of neighbours; fewer where there are fewer items.
        present: items that have vectors in both; others are left out.
        metric: as for `nearest_neighbours`.
    """
    rows = np.arange(len(original)) if present is None else np.flatnonzero(present)
    k = min(k, len(rows) - 1)
    if k < 1:
        return NeighbourRecall(float("nan"), len(rows), max(k, 0))
    before, after = (nearest_neighbours(space[rows], k, metric) for space in (original, changed))
    offsets = np.arange(len(rows))[:, None] * len(rows)  # makes one integer of (item, neighbour)
    return NeighbourRecall(float(np.isin(before + offsets, after + offsets).mean()), len(rows), k)
