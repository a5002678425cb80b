"""The best items of every query: by faiss where the factors are dense, by blocks otherwise; the same answer.

Order is by score, then by item_id, so that ties have one answer. faiss works in float32 and keeps any of several
equal items, so what it finds counts only where its own rounding cannot have hidden a better item; other queries
(mass ties, as under popularity) go through blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np
from scipy.sparse import csr_matrix

from sidflow.ranking.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32

_MARGIN = 8  # further items asked of faiss, so that its rounding seldom matters
_FAISS_ROWS = 2_048
_GATHERED = 131_072  # item vectors that are looked at again together: 67 MB where they are 64 wide
_MOST_ASKED = 1_024  # more than that per query, and a block is faster


class Top(NamedTuple):
    """The best items, best first; -1 and the lowest float where there were fewer candidates."""

    items: Int32[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]


NOTHING = np.finfo(np.float32).min


def of_block(scores: Float32[np.ndarray, "b n"], k: int) -> Top:
    """Return the best of each row of `scores`; excluded items hold -inf."""
    rows, n = scores.shape
    items = np.full((rows, k), -1, dtype=np.int32)
    best = np.full((rows, k), NOTHING, dtype=np.float32)
    width = min(k, n)
    if rows == 0 or width == 0:
        return Top(items, best)
    threshold = np.partition(scores, n - width, axis=1)[:, n - width]
    for row in range(rows):
        chosen = np.flatnonzero((scores[row] >= threshold[row]) & (scores[row] > -np.inf))
        chosen = chosen[np.argsort(-scores[row, chosen], kind="stable")][:width]
        items[row, : len(chosen)] = chosen
        best[row, : len(chosen)] = scores[row, chosen]
    return Top(items, best)


def by_faiss(scores: Scores, excluded: csr_matrix, k: int) -> tuple[Top, Bool[np.ndarray, " q"]]:
    """Return the best items of every query, and which queries' answers are proven; the others need blocks.

    Args:
        scores: dense factors only.
        excluded: bool CSR [q, items], what must not be recommended.
        k: how many.
    """
    assert scores.dense is not None and scores.sparse is None
    states, matrix = (np.ascontiguousarray(part, dtype=np.float32) for part in scores.dense)
    top = Top(np.full((scores.queries, k), -1, dtype=np.int32), np.full((scores.queries, k), NOTHING, dtype=np.float32))
    proven = np.zeros(scores.queries, dtype=bool)
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)  # type: ignore[call-arg]  # faiss's own wrapper
    wide_states, wide_matrix = states.astype(np.float64), matrix.astype(np.float64)
    longest = float(np.linalg.norm(wide_matrix, axis=1).max(initial=0))
    rounding = np.linalg.norm(wide_states, axis=1) * longest * (matrix.shape[1] + 4) * 2.0**-23
    asked = np.minimum(k + np.diff(excluded.indptr) + _MARGIN, scores.items)
    queries = np.argsort(asked, kind="stable")  # those that need about as many together: faiss's time grows with them
    queries = queries[asked[queries] <= _MOST_ASKED]
    while len(queries):
        widest = asked[queries[:_FAISS_ROWS]]  # of the first, the first two, ... queries: they are sorted by it
        few = max(1, int(np.searchsorted(widest * np.arange(1, len(widest) + 1), _GATHERED, side="right")))
        rows, queries = queries[:few], queries[few:]
        width = int(asked[rows[-1]])
        coarse, found = index.search(states[rows], width)  # type: ignore[call-arg]
        exact = np.matmul(wide_matrix[found], wide_states[rows, :, None])[:, :, 0].astype(np.float32)
        exact[_member(excluded, rows, found, scores.items)] = -np.inf
        order = np.lexsort((found, -exact), axis=1)[:, :k]
        best, items = np.take_along_axis(exact, order, axis=1), np.take_along_axis(found, order, axis=1)
        missed = coarse[:, -1].astype(np.float64) + rounding[rows]  # no item that faiss left out is above that
        proven[rows] = (width == scores.items) | ((best.shape[1] == k) & (best[:, -1] > missed))
        some = best > -np.inf
        top.items[rows, : best.shape[1]] = np.where(some, items, -1)
        top.scores[rows, : best.shape[1]] = np.where(some, best, NOTHING)
    return top, proven


def _member(matrix: csr_matrix, rows: np.ndarray, columns: np.ndarray, width: int) -> np.ndarray:
    """Return whether (rows[b], columns[b, j]) is an entry of `matrix`, which is `width` wide."""
    part = csr_matrix(matrix[rows])
    keys = np.repeat(np.arange(len(rows)), np.diff(part.indptr)) * width + part.indices
    return np.isin(np.arange(len(rows))[:, None] * width + columns, keys)
