"""What a batch asks of the model: which places predict which items, and how that is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sidflow.losses.catalogue_softmax import binary_cross_entropy, catalogue_cross_entropy, sampled_cross_entropy
from sidflow.losses.negatives import Negatives
from sidflow.recommenders.neural.batches import real
from sidflow.recommenders.neural.params import SequenceParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Examples(NamedTuple):
    """What goes in, and what is to come out where."""

    inputs: Int[Tensor, "b t"]  # items; 0 where padded or masked
    masked: Bool[Tensor, "b t"] | None  # places whose item is hidden; None where none ever is
    lengths: Int[Tensor, " b"]
    places: Int[Tensor, " p"]  # places to be predicted, numbered row by row through [b, t]
    targets: Int[Tensor, " p"]

    def items(self) -> Int[Tensor, " k"]:
        """Return the distinct items that the batch shows or asks for: no padding."""
        shown = real(self.lengths, self.inputs.shape[1])
        if self.masked is not None:
            shown = shown & ~self.masked
        return torch.unique(torch.cat([self.inputs[shown], self.targets]))


def next_items(items: Int[Tensor, "b t_plus_1"], lengths: Int[Tensor, " b"]) -> Examples:
    """Each item but the last is an input, the one after it the target."""
    inputs, targets = items[:, :-1], items[:, 1:]
    lengths = lengths - 1
    places = real(lengths, inputs.shape[1]).flatten().nonzero()[:, 0]
    return Examples(inputs, None, lengths, places, targets.flatten()[places])


def masked_items(
    items: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], mask_share: float, query_share: float
) -> Examples:
    """Hide some items, at least one of each row, and ask for them (Source: arXiv 1904.06690, section 3.6).

    Deviation: some rows end at a place drawn for this batch, with just the item there hidden. The paper hides the
    last item of whole sequences for that purpose, which shows the model each user's same single query every time.

    Args:
        items: padded rows.
        lengths: of the rows, at least 1.
        mask_share: probability of each item to be hidden.
        query_share: probability of a row to look like a query: its end cut off, its last item hidden.

    Draws from the global generator.
    """
    b, t = items.shape
    device = items.device
    cut = (torch.rand(b, device=device) * (lengths - 1)).long() + 2  # 2 to the length: something precedes the target
    as_query = torch.rand(b, device=device) < query_share
    lengths = torch.where(as_query, cut.clamp(max=lengths), lengths)
    last = torch.arange(t, device=device)[None, :] == lengths[:, None] - 1
    masked = (torch.rand(b, t, device=device) < mask_share) & real(lengths, t)
    masked = torch.where((as_query | ~masked.any(1))[:, None], last, masked)
    places = masked.flatten().nonzero()[:, 0]
    kept = items.masked_fill(masked | ~real(lengths, t), 0)
    return Examples(kept, masked, lengths, places, items.flatten()[places])


class Objective(nn.Module):
    """The loss of a batch, over the whole catalogue or over negatives drawn for it."""

    def __init__(self, settings: SequenceParams, counts: Int[Tensor, " n"]) -> None:
        """Prepare `settings.loss` over items that stand `counts` times in training parts."""
        super().__init__()
        self.settings = settings
        self.negatives = Negatives(settings, counts)

    @property
    def sampled(self) -> bool:
        """Whether only drawn items are scored."""
        return self.settings.loss != "full"

    def draw(self) -> Int[Tensor, " m"]:
        """Return this batch's negatives, from the global generator."""
        return self.negatives.draw()

    def forward(
        self,
        states: Float[Tensor, "p d"],
        vectors: Float[Tensor, "k d"],
        targets: Int[Tensor, " p"],
        negatives: Int[Tensor, " m"] | None = None,
        drawn: Int[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss over the places.

        Args:
            states: of the places to be predicted.
            vectors: of the items at hand.
            targets: rows of `vectors`.
            negatives: rows of `vectors`; None scores all of them.
            drawn: the negatives' item ids.
        """
        if negatives is None or drawn is None:
            return catalogue_cross_entropy(states, vectors, targets)
        if self.settings.loss == "bce":
            return binary_cross_entropy(states, vectors, targets, negatives)
        return sampled_cross_entropy(states, vectors, targets, negatives, self.negatives.log_expected(drawn))
