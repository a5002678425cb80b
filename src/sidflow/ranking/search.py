"""The best items by inner product: searched in float32, verified in float64.

The items of the float32 search are scored again in float64, as `Scores` does it. A list counts as proven only where
float32 rounding cannot have hidden a better item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.ranking.scores import Scores, Shortlist, TopK, shortlist, sort_by_score, top_k_of_scores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int64


_MARGIN = 8  # further items in a float32 shortlist, so that rounding seldom matters
_BLOCK_BYTES = 64_000_000  # of one block of float32 scores, or of item rows that are scored again
_LENGTH_ROWS = 512  # held in float64 at a time for their lengths


class QueryShortlists(NamedTuple):
    """The float32 shortlists of some queries."""

    rows: Int64[np.ndarray, " b"]
    shortlist: Shortlist  # excluded items at -inf


def proven_top_k(scores: Scores, excluded: csr_matrix, k: int) -> tuple[TopK, Bool[np.ndarray, " q"]]:
    """Return the top k of every query, and which of the lists are proven; the others need all scores in float64.

    Args:
        scores: of dense factors only.
        excluded: bool CSR [q, n], items that must not be recommended.
        k: length of a list.
    """
    assert scores.factors.states is not None and scores.factors.matrix is not None
    states, matrix = (
        np.ascontiguousarray(part, dtype=np.float32) for part in (scores.factors.states, scores.factors.matrix)
    )
    rounding = _lengths(states) * _lengths(matrix).max(initial=0) * (matrix.shape[1] + 4) * 2.0**-23
    top, proven = TopK.empty(scores.queries, k), np.zeros(scores.queries, dtype=bool)
    for rows, candidates in _search(states, matrix, excluded, k + _MARGIN):
        wide_items, wide_states = (part.astype(np.float64) for part in (matrix[candidates.items], states[rows]))
        exact = np.einsum("bwd,bd->bw", wide_items, wide_states).astype(np.float32)
        exact[np.isneginf(candidates.scores)] = -np.inf
        items, best = (part[:, :k] for part in sort_by_score(candidates.items, exact))
        top.write(rows, TopK(items.astype(np.int32), best))
        worst, left_out = best[:, -1].astype(np.float64), candidates.best_left_out.astype(np.float64)
        proven[rows] = (np.isneginf(left_out) | (worst > left_out + rounding[rows])) & np.isfinite(rounding[rows])
    return top, proven


def _lengths(rows: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Return the Euclidean length of each row."""
    lengths = np.empty(len(rows))
    for start in range(0, len(rows), _LENGTH_ROWS):
        wide = rows[start : start + _LENGTH_ROWS].astype(np.float64)
        lengths[start : start + _LENGTH_ROWS] = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    return lengths


def _search(
    states: Float32[np.ndarray, "q d"], matrix: Float32[np.ndarray, "n d"], excluded: csr_matrix, width: int
) -> Iterator[QueryShortlists]:
    """Yield the `width` best of every query, from blocks with the scores of all items."""
    widest = max(len(matrix), 2 * width * matrix.shape[1])
    size = max(1, _BLOCK_BYTES // (4 * max(1, widest)))
    buffer = np.empty((min(size, len(states)), len(matrix)), dtype=np.float32)
    for start in range(0, len(states), size):
        rows = np.arange(start, min(start + size, len(states)))
        block = np.matmul(states[rows], matrix.T, out=buffer[: len(rows)])
        block[excluded[rows].nonzero()] = -np.inf
        yield QueryShortlists(rows, shortlist(block, width))


def search_top_k(arrays: Mapping[str, np.ndarray], excluded: csr_matrix, k: int, name: str = "factors") -> TopK:
    """Return the `k` best items of every query, exact, equal scores by item id.

    Dense factors are searched in float32. Queries whose list is not proven exact by that, and all queries of factors
    with a sparse pair, are answered from all scores.

    Args:
        arrays: of a FACTORS artifact.
        excluded: bool CSR [q, n], items that must not be recommended.
        k: length of a list; -1 at its end where there are fewer candidates.
        name: of the factors in error messages.

    Raises:
        InputError: the factors do not fit `excluded`, or a score is not finite.
    """
    queries, items = map(int, excluded.shape)  # type: ignore[misc]
    scores = Scores(arrays, queries, items, name)
    remaining = np.arange(queries)
    top = TopK.empty(queries, k)
    if scores.factors.states is not None and scores.factors.evidence is None:
        top, proven = proven_top_k(scores, excluded, k)
        remaining = remaining[~proven]
    for start in range(0, len(remaining), scores.block_rows):
        rows = remaining[start : start + scores.block_rows]
        block = scores.for_queries(rows)
        block[excluded[rows].nonzero()] = -np.inf
        top.write(rows, top_k_of_scores(block, k))
    return top
