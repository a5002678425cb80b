"""The content's part of a hybrid's scores, of fixed rows under weights that are learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import NO_ITEM
from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Float, Int


COSINE_BYTES = 1_500_000_000  # that a fit keeps of cosines of content, at most


def weighted_rows(
    last_items: Int[Tensor, "p last"], rows: Float[Tensor, "n d"], weights: Float[Tensor, " last"]
) -> Float[Tensor, "p d"]:
    """Return the weighted sum of the rows of each history's last items, where there are any."""
    entries = (last_items != NO_ITEM) * weights.to(rows.dtype)
    return functional.embedding_bag(last_items.clamp(min=0), rows, per_sample_weights=entries, mode="sum")


class Cosines(NamedTuple):
    """The cosines of each item that some history holds and each core item."""

    row_of: Int[Tensor, " n"]  # of an item; one past the last where no history holds it
    kinds: list[Float[Tensor, "m items"]]  # by kind of content


class ContentScores:
    """The content's part of the scores of all core items, in training and in validation of one fit.

    The cosines of every item that some history holds are computed once. A history then costs a weighted sum of `last`
    rows of them, and no product as wide as the content. Where they take too much memory it is that.
    """

    def __init__(
        self, content_rows: Callable[[], dict[str, Float[Tensor, "n d"]]], items: int, histories: Histories
    ) -> None:
        """Compute nothing yet.

        Args:
            content_rows: returns the rows of each kind of content, on the device that scores are computed on.
            items: number of core items.
            histories: whose items are looked at.
        """
        self.content_rows, self.items = content_rows, items
        self.looked_at = torch.from_numpy(np.unique(histories.items).astype(np.int64))

    @cached_property
    def cosines(self) -> Cosines | None:
        """The cosines; None where they take too much memory, or there is no content."""
        content = list(self.content_rows().values())
        if not content or len(content) * len(self.looked_at) * self.items * 4 > COSINE_BYTES:
            return None
        with torch.no_grad():
            looked_at = self.looked_at.to(content[0].device)
            row_of = torch.full((len(content[0]),), len(looked_at), device=looked_at.device)
            row_of[looked_at] = torch.arange(len(looked_at), device=looked_at.device)
            return Cosines(row_of, [rows[looked_at] @ rows[: self.items].T for rows in content])

    def of(self, last_items: Int[Tensor, "p last"], weights: Float[Tensor, "kinds last"]) -> Float[Tensor, "p n"]:
        """Return the sum of `lambda_s * cos` of each history and each core item; gradients flow to `weights`."""
        scores = weights.new_zeros(len(last_items), self.items)
        with full_precision(last_items.device):
            if self.cosines is None:
                for rows, weight in zip(self.content_rows().values(), weights, strict=True):
                    scores = scores + weighted_rows(last_items, rows, weight) @ rows[: self.items].T
                return scores
            rows = torch.where(last_items == NO_ITEM, NO_ITEM, self.cosines.row_of[last_items.clamp(min=0)])
            for cosines, weight in zip(self.cosines.kinds, weights, strict=True):
                scores = scores + weighted_rows(rows, cosines, weight)
            return scores

    def of_candidates(
        self,
        last_items: Int[Tensor, "p last"],
        weights: Float[Tensor, "kinds last"],
        targets: Int[Tensor, " p"],
        negatives: Int[Tensor, " m"],
    ) -> Float[Tensor, "p 1_plus_m"]:
        """Return the same of each history's own target, then of negatives that all share; it needs no cosines."""
        scores = weights.new_zeros(len(last_items), 1 + len(negatives))
        with full_precision(last_items.device):
            for rows, weight in zip(self.content_rows().values(), weights, strict=True):
                states = weighted_rows(last_items, rows, weight)
                own = (states * rows[targets]).sum(1, keepdim=True)
                scores = scores + torch.cat([own, states @ rows[negatives].T], 1)
        return scores
