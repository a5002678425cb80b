"""What a batch asks of the model: which places predict which items, and how that is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sidflow.losses.catalogue_softmax import binary_cross_entropy, catalogue_cross_entropy, sampled_cross_entropy
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


def next_items(items: Int[Tensor, "b t_plus_1"], lengths: Int[Tensor, " b"]) -> Examples:
    """Each item but the last is an input, the one after it the target."""
    inputs, targets = items[:, :-1], items[:, 1:]
    lengths = lengths - 1
    places = real(lengths, inputs.shape[1]).flatten().nonzero()[:, 0]
    return Examples(inputs, None, lengths, places, targets.flatten()[places])


def masked_items(
    items: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], mask_share: float, last_share: float
) -> Examples:
    """Hide some items, at least one of each row, and ask for them (Source: arXiv 1904.06690, section 3.6).

    Args:
        items: padded rows.
        lengths: of the rows.
        mask_share: probability of each item to be hidden.
        last_share: probability of a row to have just its last item hidden, which is how queries look.

    Draws from the global generator.
    """
    b, t = items.shape
    steps = torch.arange(t, device=items.device)
    last = steps[None, :] == lengths[:, None] - 1
    masked = (torch.rand(b, t, device=items.device) < mask_share) & real(lengths, t)
    only_last = (torch.rand(b, 1, device=items.device) < last_share) | ~masked.any(1, keepdim=True)
    masked = torch.where(only_last, last, masked)
    places = masked.flatten().nonzero()[:, 0]
    return Examples(items.masked_fill(masked, 0), masked, lengths, places, items.flatten()[places])


class Objective(nn.Module):
    """The loss of a batch, over the whole catalogue or over negatives drawn for it."""

    chances: Tensor

    def __init__(self, settings: SequenceParams, counts: Int[Tensor, " n"]) -> None:
        """Prepare `settings.loss` over items that stand `counts` times in training parts."""
        super().__init__()
        self.settings = settings
        weights = (counts.double() + 1) ** settings.negatives_power
        self.register_buffer("chances", weights / weights.sum(), persistent=False)

    @property
    def sampled(self) -> bool:
        """Whether only drawn items are scored."""
        return self.settings.loss != "full"

    def draw(self) -> Int[Tensor, " m"]:
        """Return this batch's negatives, from the global generator."""
        if self.settings.negatives_power == 0:
            return torch.randint(len(self.chances), (self.settings.negatives,), device=self.chances.device)
        return torch.multinomial(self.chances, self.settings.negatives, replacement=True)

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
        correction = None
        if self.settings.logq:
            correction = (self.chances[drawn] * len(drawn)).log().float()
        return sampled_cross_entropy(states, vectors, targets, negatives, correction)
