"""The best items by inner product: looked up in float32, proven in float64.

What float32 finds is scored again in float64, as `scores` does, and counts only where float32's rounding cannot have
hidden a better item. Few queries go through a faiss index, many through blocks of products: the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np
from scipy.sparse import csr_matrix

from sidflow.ranking.scores import Scores
from sidflow.ranking.top import Leaders, Top, in_order, leaders

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int64

_MARGIN = 8  # further items that are looked up, so that rounding seldom matters
FEW = 64  # queries
_BLOCK_BYTES = 64_000_000  # of one block of float32 scores, or of item rows that are scored again


class Found(NamedTuple):
    """What float32 says of some queries."""

    rows: Int64[np.ndarray, " b"]
    leaders: Leaders  # excluded items at -inf


def by_inner_product(scores: Scores, excluded: csr_matrix, k: int) -> tuple[Top, Bool[np.ndarray, " q"]]:
    """Return the best items of every query, and which queries' answers are proven; the others need blocks of `scores`.

    Args:
        scores: dense factors only.
        excluded: bool CSR [q, items], what must not be recommended.
        k: how many.
    """
    assert scores.dense is not None and scores.sparse is None
    states, matrix = (np.ascontiguousarray(part, dtype=np.float32) for part in scores.dense)
    wide_states, wide_matrix = states.astype(np.float64), matrix.astype(np.float64)
    longest = float(np.linalg.norm(wide_matrix, axis=1).max(initial=0))
    rounding = np.linalg.norm(wide_states, axis=1) * longest * (matrix.shape[1] + 4) * 2.0**-23
    top, proven = Top.empty(scores.queries, k), np.zeros(scores.queries, dtype=bool)
    look = _in_index if scores.queries <= FEW else _in_blocks
    for rows, found in look(states, matrix, excluded, k + _MARGIN):
        exact = np.einsum("bwd,bd->bw", wide_matrix[found.items], wide_states[rows]).astype(np.float32)
        exact[np.isneginf(found.scores)] = -np.inf
        items, best = (part[:, :k] for part in in_order(found.items, exact))
        top.put(rows, Top(items.astype(np.int32), best))
        worst, missed = best[:, -1].astype(np.float64), found.missed.astype(np.float64)
        proven[rows] = (np.isneginf(missed) | (worst > missed + rounding[rows])) & np.isfinite(rounding[rows])
    return top, proven


def _in_blocks(
    states: Float32[np.ndarray, "q d"], matrix: Float32[np.ndarray, "n d"], excluded: csr_matrix, width: int
) -> Iterator[Found]:
    """Find the `width` best of every query by whole blocks of scores."""
    items, widest = np.ascontiguousarray(matrix.T), max(len(matrix), 2 * width * matrix.shape[1])
    size = max(1, _BLOCK_BYTES // (4 * max(1, widest)))
    room = np.empty((min(size, len(states)), len(matrix)), dtype=np.float32)
    for start in range(0, len(states), size):
        rows = np.arange(start, min(start + size, len(states)))
        scored = np.matmul(states[rows], items, out=room[: len(rows)])
        part = csr_matrix(excluded[rows])
        scored[np.repeat(np.arange(len(rows)), np.diff(part.indptr)), part.indices] = -np.inf
        yield Found(rows, leaders(scored, width))


def _in_index(
    states: Float32[np.ndarray, "q d"], matrix: Float32[np.ndarray, "n d"], excluded: csr_matrix, width: int
) -> Iterator[Found]:
    """Find the `width` best of every query, and as many as are excluded, in a flat faiss index."""
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)  # type: ignore[call-arg]  # faiss's own wrapper
    for row in range(len(states)):
        held = excluded.indices[excluded.indptr[row] : excluded.indptr[row + 1]]
        asked = min(width + len(held), len(matrix))
        scored, items = index.search(states[row : row + 1], asked)  # type: ignore[call-arg]
        missed = scored[:, -1] if asked < len(matrix) else np.full(1, -np.inf, dtype=np.float32)
        scored[np.isin(items, held)] = -np.inf
        yield Found(np.array([row]), Leaders(items, scored, missed))
