"""The best items by inner product: looked up in float32, proven in float64.

What float32 finds is scored again in float64, as `scores` does, and counts only where float32's rounding cannot have
hidden a better item. Few queries go through a faiss index, many through blocks of products: the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import faiss
import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

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
    wide_states, wide_matrix = torch.from_numpy(states).double(), torch.from_numpy(matrix).double()
    longest = torch.linalg.vector_norm(wide_matrix, dim=1).max() if len(matrix) else torch.zeros(())
    rounding = torch.linalg.vector_norm(wide_states, dim=1) * longest * (matrix.shape[1] + 4) * 2.0**-23
    top, proven = Top.empty(scores.queries, k), np.zeros(scores.queries, dtype=bool)
    look = _in_index if scores.queries <= FEW else _in_blocks
    for rows, found in look(states, matrix, excluded, k + _MARGIN):
        exact = torch.bmm(wide_matrix[found.items], wide_states[rows, :, None])[:, :, 0].float()
        items, best = in_order(found.items, exact.masked_fill(found.scores.isneginf(), -torch.inf))
        items, best = items[:, :k], best[:, :k]
        top.put(rows, Top(items.int().numpy(), best.numpy()))
        worst, missed = best[:, -1].double(), found.missed.double()
        proven[rows] = (missed.isneginf() | (worst > missed + rounding[rows])) & rounding[rows].isfinite()
    return top, proven


def _in_blocks(
    states: Float32[np.ndarray, "q d"], matrix: Float32[np.ndarray, "n d"], excluded: csr_matrix, width: int
) -> Iterator[Found]:
    """Find the `width` best of every query by whole blocks of scores."""
    items, widest = torch.from_numpy(np.ascontiguousarray(matrix.T)), max(len(matrix), width * 2 * matrix.shape[1])
    size = max(1, _BLOCK_BYTES // (4 * max(1, widest)))
    room = torch.empty(min(size, len(states)), len(matrix))
    for start in range(0, len(states), size):
        rows = np.arange(start, min(start + size, len(states)))
        scored = torch.mm(torch.from_numpy(states[rows]), items, out=room[: len(rows)])
        scored[_entries(csr_matrix(excluded[rows]))] = -torch.inf
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
        missed = scored[:, -1] if asked < len(matrix) else np.float32([-np.inf])
        scored[np.isin(items, held)] = -np.inf
        yield Found(np.array([row]), Leaders(*map(torch.from_numpy, (items, scored, missed))))


def _entries(matrix: csr_matrix) -> tuple[Tensor, Tensor]:
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    return torch.from_numpy(rows), torch.from_numpy(matrix.indices.astype(np.int64))
