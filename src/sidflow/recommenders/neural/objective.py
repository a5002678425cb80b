"""Inputs and targets of a batch, and the loss of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sidflow.losses.catalogue_softmax import binary_cross_entropy, catalogue_cross_entropy, sampled_cross_entropy
from sidflow.losses.negatives import Candidates, NegativeSampler
from sidflow.recommenders.neural.params import SequenceParams
from sidflow.sequences.windows import padding_mask
from sidflow.training.scores import TrainingScores

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Examples(NamedTuple):
    """Inputs of a batch, and the positions at which it predicts items."""

    inputs: Int[Tensor, "b t"]  # items; 0 where padded or masked
    masked: Bool[Tensor, "b t"] | None  # positions whose item is masked; None: a causal model
    lengths: Int[Tensor, " b"]
    positions: Int[Tensor, " p"]  # that predict, numbered row by row through [b, t]
    targets: Int[Tensor, " p"]
    last: Int[Tensor, " p"]  # where in its window each position's history ends; -1 before its first item
    predicted: Int[Tensor, " p"]  # where in its window each position's target stands

    def items(self) -> Int[Tensor, " k"]:
        """Return the distinct items that the batch reads or predicts, without padding."""
        shown = padding_mask(self.lengths, self.inputs.shape[1])
        if self.masked is not None:
            shown = shown & ~self.masked
        return torch.unique(torch.cat([self.inputs[shown], self.targets]))


def next_items(
    items: Int[Tensor, "b t_plus_1"], lengths: Int[Tensor, " b"], columns: Int[Tensor, "b t_plus_1"]
) -> Examples:
    """Each item but the last is an input, the one after it the target; `columns` say where in its window each was."""
    inputs, targets = items[:, :-1], items[:, 1:]
    lengths = lengths - 1
    positions = padding_mask(lengths, inputs.shape[1]).flatten().nonzero()[:, 0]
    last, predicted = (part.flatten()[positions] for part in (columns[:, :-1], columns[:, 1:]))
    return Examples(inputs, None, lengths, positions, targets.flatten()[positions], last, predicted)


def masked_items(
    items: Int[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    columns: Int[Tensor, "b t"],
    mask_share: float,
    query_share: float,
) -> Examples:
    """Mask some items, at least one of each row, and predict them (Source: arXiv 1904.06690, section 3.6).

    Deviation: some rows end at a random position, with just the item there masked. The paper masks the
    last item of whole sequences for that purpose, which shows the model each user's same single query every time.

    A position's history, for a score prior, holds the items before it in the window, as in a query.

    Args:
        items: padded rows.
        lengths: of the rows, at least 1.
        columns: where in its window each item was.
        mask_share: probability of each item to be masked.
        query_share: probability of a row to look like a query: its end cut off, its last item masked.

    Draws from the global generator.
    """
    b, t = items.shape
    device = items.device
    cut = (torch.rand(b, device=device) * (lengths - 1)).long() + 2  # 2 to the length: something precedes the target
    as_query = torch.rand(b, device=device) < query_share
    lengths = torch.where(as_query, cut.clamp(max=lengths), lengths)
    last = torch.arange(t, device=device)[None, :] == lengths[:, None] - 1
    masked = (torch.rand(b, t, device=device) < mask_share) & padding_mask(lengths, t)
    masked = torch.where((as_query | ~masked.any(1))[:, None], last, masked)
    positions = masked.flatten().nonzero()[:, 0]
    kept = items.masked_fill(masked | ~padding_mask(lengths, t), 0)
    predicted = columns.flatten()[positions]
    return Examples(kept, masked, lengths, positions, items.flatten()[positions], predicted - 1, predicted)


class Objective(nn.Module):
    """The loss of a batch, over the whole catalogue or over sampled negatives."""

    def __init__(self, settings: SequenceParams, counts: Int[Tensor, " n"]) -> None:
        """Prepare `settings.loss` over items that stand `counts` times in training parts."""
        super().__init__()
        self.settings = settings
        self.negatives = NegativeSampler(settings, counts)

    @property
    def sampled(self) -> bool:
        """Whether targets and negatives alone are scored."""
        return self.settings.loss != "full"

    def candidates(self, inputs: Int[Tensor, "b t"], targets: Int[Tensor, " p"]) -> Candidates:
        """Return what a sampled loss scores; its negatives are sampled by the global generator.

        `items` holds the `inputs` too, since their vectors are needed as well.
        """
        negatives = self.negatives.sample()
        items, rows = torch.unique(torch.cat([inputs.flatten(), targets, negatives]), return_inverse=True)
        _, own, shared = rows.split([inputs.numel(), len(targets), len(negatives)])
        return Candidates(items, own, shared, self.negatives.log_expected(negatives))

    def forward(self, scores: TrainingScores) -> Float[Tensor, ""]:
        """Return the mean loss over the positions of a batch."""
        if scores.candidates is None:
            return catalogue_cross_entropy(scores.states, scores.item_matrix, scores.targets)
        targets, negatives, log_expected = scores.candidates.scored
        if self.settings.loss == "bce":
            return binary_cross_entropy(scores.states, scores.item_matrix, targets, negatives)
        return sampled_cross_entropy(scores.states, scores.item_matrix, targets, negatives, log_expected)
