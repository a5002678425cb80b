"""The best of each row of scores, equal ones in the order of their ids.

Rows are cut into groups: the k best items stand in the k groups whose largest score is largest, so that one look at
every score, vectorised, leaves few to sort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Int64

NOTHING = np.finfo(np.float32).min
_GROUP = 16  # scores


class Top(NamedTuple):
    """The best items, best first; -1 and the lowest float where there were fewer candidates."""

    items: Int32[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]

    @classmethod
    def empty(cls, queries: int, k: int) -> Top:
        """Return room for the `k` best items of `queries` queries, no candidate in it yet."""
        return cls(np.full((queries, k), -1, dtype=np.int32), np.full((queries, k), NOTHING, dtype=np.float32))

    def put(self, rows: Int64[np.ndarray, " b"], best: Top) -> None:
        """Write `best` into the queries `rows`; -inf is no candidate, and may be missing."""
        width, some = best.items.shape[1], best.scores > -np.inf
        self.items[rows, :width] = np.where(some, best.items, -1)
        self.scores[rows, :width] = np.where(some, best.scores, NOTHING)


class Leaders(NamedTuple):
    """Some of each row's best, in no order."""

    items: Int64[np.ndarray, "b w"]
    scores: Float32[np.ndarray, "b w"]
    missed: Float32[np.ndarray, " b"]  # the best score that is not among them; -inf where all are


def leaders(scores: Float32[np.ndarray, "b n"], width: int) -> Leaders:
    """Return the `width` best of each row, or all where there are fewer; of equal ones at the end any."""
    rows, n = scores.shape
    if width >= n:
        return Leaders(np.tile(np.arange(n), (rows, 1)), scores, np.full(rows, -np.inf, dtype=np.float32))
    groups = n // _GROUP
    whole = groups * _GROUP
    best = scores[:, :whole].reshape(rows, _GROUP, groups).max(1)  # item i is in group i % groups
    found = _largest(best, min(width + 1, groups))
    items = (found[:, None, :] + np.arange(0, whole, groups or 1)[:, None]).reshape(rows, -1)
    items = np.concatenate([items, np.tile(np.arange(whole, n), (rows, 1))], axis=1)  # those in no group: always there
    few = np.take_along_axis(scores, items, axis=1)
    place = _largest(few, width + 1)
    # A group that was not chosen has nothing above the worst of width + 1 others.
    few, items = np.take_along_axis(few, place, axis=1), np.take_along_axis(items, place, axis=1)
    return Leaders(items[:, 1:], few[:, 1:], few[:, 0])


def _largest(values: Float32[np.ndarray, "b n"], count: int) -> Int64[np.ndarray, "b count"]:
    """Return where the `count` largest of each row stand, the smallest of them first."""
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]


def in_order(
    items: Int64[np.ndarray, "b w"], scores: Float32[np.ndarray, "b w"]
) -> tuple[Int64[np.ndarray, "b w"], Float32[np.ndarray, "b w"]]:
    """Return items and their scores by falling score, equal ones by rising item."""
    order = np.lexsort((items, -scores), axis=1)
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)


def of_block(scores: Float32[np.ndarray, "b n"], k: int) -> Top:
    """Return the best of each row of `scores`; excluded items hold -inf."""
    found = Top.empty(len(scores), k)
    if not scores.size or not k:
        return found
    lead = leaders(scores, k)
    items, best = in_order(lead.items, lead.scores)
    missed = lead.missed
    for row in np.flatnonzero((missed == best[:, -1]) & (missed > -np.inf)):  # equal to one that was left out
        chosen = np.flatnonzero(scores[row] >= missed[row])
        items[row] = chosen[np.argsort(-scores[row, chosen], kind="stable")][: items.shape[1]]
    found.put(np.arange(len(scores)), Top(items.astype(np.int32), best))
    return found
