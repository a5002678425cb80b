"""The top k of each row of scores, equal scores in the order of item ids.

Items are cut into groups. The k best items lie in the k groups with the largest maxima, so that one vectorised pass
over all scores leaves few to sort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Int64

LOWEST_SCORE = np.finfo(np.float32).min
_GROUP_SIZE = 16  # scores


class TopK(NamedTuple):
    """The best items per query, best first; -1 and the lowest float where there were fewer candidates."""

    items: Int32[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]

    @classmethod
    def empty(cls, queries: int, k: int) -> TopK:
        """Return lists without a candidate, `k` places for each of `queries` queries."""
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
    chosen = _positions_of_largest(maxima, min(width + 1, groups))
    items = (chosen[:, None, :] + np.arange(0, grouped, groups or 1)[:, None]).reshape(rows, -1)
    items = np.concatenate([items, np.tile(np.arange(grouped, n), (rows, 1))], axis=1)  # those in no group: always
    candidates = np.take_along_axis(scores, items, axis=1)
    positions = _positions_of_largest(candidates, width + 1)
    # A group that was not chosen has nothing above the worst of width + 1 others.
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


def _positions_of_largest(values: Float32[np.ndarray, "b n"], count: int) -> Int64[np.ndarray, "b count"]:
    """Return the positions of the `count` largest values of each row, the smallest of them first."""
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]
