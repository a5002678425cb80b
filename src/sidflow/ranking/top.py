"""The best of each row of scores, equal ones in the order of their ids.

Rows are cut into stretches: the k best items stand in the k stretches whose largest score is largest, so that one
look at every score, vectorised, leaves few to sort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Int64

NOTHING = np.finfo(np.float32).min
_STRETCH = 32  # scores


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

    items: Int64[Tensor, "b w"]
    scores: Float32[Tensor, "b w"]
    missed: Float32[Tensor, " b"]  # the best score that is not among them; -inf where all are


def leaders(scores: Float32[Tensor, "b n"], width: int) -> Leaders:
    """Return the `width` best of each row, or all where there are fewer; of equal ones at the end any."""
    rows, n = scores.shape
    if width >= n:
        return Leaders(torch.arange(n).expand(rows, n), scores, scores.new_full((rows,), -torch.inf))
    whole = n - n % _STRETCH
    stretches = scores[:, :whole].unflatten(1, (-1, _STRETCH))
    best = stretches.amax(2)
    first = min(width + 1, best.shape[1])
    found = best.topk(first, dim=1, sorted=False)
    within = torch.arange(_STRETCH)
    items = (found.indices[:, :, None] * _STRETCH + within).flatten(1)
    items = torch.cat([items, torch.arange(whole, n).expand(rows, -1)], 1)  # what is left at the end is always there
    chosen = torch.gather(scores, 1, items).topk(width + 1, dim=1)
    missed = chosen.values[:, -1]  # a stretch that was not chosen has nothing above the worst of width + 1 others
    return Leaders(items.gather(1, chosen.indices[:, :-1]), chosen.values[:, :-1], missed)


def in_order(items: Int64[Tensor, "b w"], scores: Float32[Tensor, "b w"]) -> tuple[Tensor, Tensor]:
    """Return items and their scores by falling score, equal ones by rising item."""
    items, place = items.sort(dim=1)
    scores, order = torch.sort(scores.gather(1, place), dim=1, descending=True, stable=True)
    return items.gather(1, order), scores


def of_block(scores: Float32[np.ndarray, "b n"], k: int) -> Top:
    """Return the best of each row of `scores`; excluded items hold -inf."""
    found = Top.empty(len(scores), k)
    if not scores.size or not k:
        return found
    lead = leaders(torch.from_numpy(scores), k)
    items, best = (part.numpy() for part in in_order(lead.items, lead.scores))
    items, missed = items.astype(np.int32), lead.missed.numpy()
    for row in np.flatnonzero((missed == best[:, -1]) & (missed > -np.inf)):  # equal to one that was left out
        chosen = np.flatnonzero(scores[row] >= missed[row])
        items[row] = chosen[np.argsort(-scores[row, chosen], kind="stable")][: items.shape[1]]
    found.put(np.arange(len(scores)), Top(items, best))
    return found
