"""Scores of all candidates for a block of queries, and the best of each row in a fixed order.

Items are cut into groups. The k best items lie in the k groups with the largest maxima, so that one vectorised pass
over all scores leaves few to sort.

Sums are made in float64 and rounded to float32. Differences between BLAS kernels, block sizes and thread counts lie
far below a float32's last bit, so that equal items get equal scores and ties are ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import DENSE, SPARSE, ScoreFactors
from sidflow.core.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int32, Int64


LOWEST_SCORE = np.finfo(np.float32).min
_GROUP_SIZE = 16  # scores


class TopK(NamedTuple):
    """The best items per query, best first; -1 and the lowest float where there were fewer candidates."""

    items: Int32[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]

    @classmethod
    def empty(cls, queries: int, k: int) -> TopK:
        """Return lists without a candidate, `k` positions for each of `queries` queries."""
        return cls(np.full((queries, k), -1, dtype=np.int32), np.full((queries, k), LOWEST_SCORE, dtype=np.float32))

    def write(self, rows: Int64[np.ndarray, " b"], best: TopK) -> None:
        """Overwrite the lists of the queries `rows`; a score of -inf is no candidate, and `best` may be shorter."""
        width, candidate = best.items.shape[1], best.scores > -np.inf
        self.items[rows, :width] = np.where(candidate, best.items, -1)
        self.scores[rows, :width] = np.where(candidate, best.scores, LOWEST_SCORE)


class Shortlist(NamedTuple):
    """The best items of each row, unordered."""

    items: Int64[np.ndarray, "b w"]
    scores: Float32[np.ndarray, "b w"]
    best_left_out: Float32[np.ndarray, " b"]  # the best score that is not on the list; -inf where all are


def shortlist(scores: Float32[np.ndarray, "b n"], width: int) -> Shortlist:
    """Return the `width` best of each row, or all where there are fewer; of equal scores at the end, any."""
    rows, n = scores.shape
    if width >= n:
        return Shortlist(np.tile(np.arange(n), (rows, 1)), scores, np.full(rows, -np.inf, dtype=np.float32))
    groups = n // _GROUP_SIZE
    grouped = groups * _GROUP_SIZE
    maxima = scores[:, :grouped].reshape(rows, _GROUP_SIZE, groups).max(1)  # item i is in group i % groups
    top_groups = _positions_of_largest(maxima, min(width + 1, groups))
    items = (top_groups[:, None, :] + np.arange(0, grouped, groups or 1)[:, None]).reshape(rows, -1)
    items = np.concatenate([items, np.tile(np.arange(grouped, n), (rows, 1))], axis=1)  # those in no group: always
    candidates = np.take_along_axis(scores, items, axis=1)
    positions = _positions_of_largest(candidates, width + 1)
    # A group not in `top_groups` has nothing above the worst of width + 1 others.
    candidates, items = (np.take_along_axis(part, positions, axis=1) for part in (candidates, items))
    return Shortlist(items[:, 1:], candidates[:, 1:], candidates[:, 0])


def sort_by_score(
    items: Int64[np.ndarray, "b w"], scores: Float32[np.ndarray, "b w"]
) -> tuple[Int64[np.ndarray, "b w"], Float32[np.ndarray, "b w"]]:
    """Return items and their scores by falling score, equal scores by rising item id."""
    order = np.lexsort((items, -scores), axis=1)
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)


def top_k_of_scores(scores: Float32[np.ndarray, "b n"], k: int) -> TopK:
    """Return the top k of each row of `scores`; excluded items hold -inf."""
    top = TopK.empty(len(scores), k)
    if not scores.size or not k:
        return top
    best = shortlist(scores, k)
    items, best_scores = sort_by_score(best.items, best.scores)
    left_out = best.best_left_out
    for row in np.flatnonzero((left_out == best_scores[:, -1]) & (left_out > -np.inf)):  # a tie with one left out
        candidates = np.flatnonzero(scores[row] >= left_out[row])
        items[row] = candidates[np.argsort(-scores[row, candidates], kind="stable")][: items.shape[1]]
    top.write(np.arange(len(scores)), TopK(items.astype(np.int32), best_scores))
    return top


def tied_by_id(
    scores: Float32[np.ndarray, "b n"], targets: Int64[np.ndarray, " b"], ids: Int32[np.ndarray, " n"]
) -> Bool[np.ndarray, "b n"]:
    """Return which other candidates have the ID and the score of each row's target; none where it is no candidate.

    In a blend, items of one ID can have different scores.

    Args:
        scores: -inf where an item is no candidate.
        targets: item ids.
        ids: the number of each item's ID.
    """
    rows = np.arange(len(scores))
    target_scores = scores[rows, targets][:, None]
    tied = (ids == ids[targets][:, None]) & (scores == target_scores) & (target_scores > -np.inf)
    tied[rows, targets] = False
    return tied


def _positions_of_largest(values: Float32[np.ndarray, "b n"], count: int) -> Int64[np.ndarray, "b count"]:
    """Return the positions of the `count` largest values of each row, the smallest of them first."""
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]


_BLOCK_BYTES = 16_000_000  # of one block of float64 scores


class Scores:
    """The scores that a recommender's factors give, query by query."""

    def __init__(self, arrays: Mapping[str, np.ndarray], queries: int, items: int, name: str = "factors") -> None:
        """Check the arrays of a FACTORS artifact.

        Args:
            arrays: dense factors, sparse factors, or both, whose scores are added.
            queries: number of queries in the split.
            items: number of candidates (core items) in the catalogue.
            name: of the factors in error messages.

        Raises:
            InputError: neither pair is complete, or one is of another size.
        """
        self.name, self.queries, self.items = name, queries, items
        shapes = [(len(arrays[DENSE[0]]), len(arrays[DENSE[1]]))] if set(DENSE) <= set(arrays) else []
        if set(SPARSE) <= set(arrays):
            width = max(items, int(arrays["item_indices"].max(initial=-1)) + 1)
            shapes.append((len(arrays["query_indptr"]) - 1, width))
        if not shapes or any(shape != (queries, items) for shape in shapes):
            raise InputError(
                name,
                expected=f"a dense or a sparse pair of factors over {queries} queries and {items} core items",
                found=f"(queries, items) {shapes} in {sorted(arrays)}",
                remedy="rerun `dvc repro`: the recommender is older than the split; if that repeats, report a defect",
            )
        self.factors = ScoreFactors.from_arrays(arrays, items)
        self._evidence, self._relation = (
            None if side is None else csr_matrix(side, dtype=np.float64)
            for side in (self.factors.evidence, self.factors.relation)
        )

    @cached_property
    def _items(self) -> Float64[np.ndarray, "d n"]:
        assert self.factors.matrix is not None
        return np.ascontiguousarray(self.factors.matrix.T, dtype=np.float64)

    @property
    def block_rows(self) -> int:
        """How many queries are scored at once: as many as fit into `_BLOCK_BYTES`."""
        return max(1, _BLOCK_BYTES // (8 * max(1, self.items)))

    def for_queries(self, rows: slice | np.ndarray) -> Float32[np.ndarray, "b n"]:
        """Return the scores of all items for the queries `rows`.

        Raises:
            InputError: a score is not finite.
        """
        total = None
        if self.factors.states is not None and self.factors.matrix is not None:
            total = self.factors.states[rows].astype(np.float64) @ self._items
        if self._evidence is not None and self._relation is not None:
            product = self._evidence[rows] @ self._relation
            total = product.toarray() if total is None else total + product
        with np.errstate(over="ignore"):
            scores = np.asarray(total).astype(np.float32)
        if not np.isfinite(scores).all():
            non_finite = np.argwhere(~np.isfinite(scores))
            query = np.arange(self.queries)[rows][non_finite[0][0]]
            raise InputError(
                self.name,
                expected="finite scores",
                found="NaN or infinity",
                count=len(non_finite),
                example={"query_id": int(query), "item_id": int(non_finite[0][1])},
                remedy="train again with a smaller learning rate; curves.csv shows where it diverged",
            )
        return scores
