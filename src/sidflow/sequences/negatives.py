"""Negatives of a sampled loss: their number, distribution and log probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from sidflow.core.params import Params

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class NegativeParams(Params):
    """The knobs of a sampled loss, of every model that has one."""

    negatives: int = Field(default=1024, ge=1, description="negatives sampled per batch, shared by its positions")
    negatives_power: float = Field(
        default=0.0, ge=0, le=1, description="negatives are sampled by (training count + 1) ** this; 0 = uniformly"
    )
    logq: bool = Field(default=False, description="true: correct `loss: sampled` for how likely each negative was")


class SampledCandidates(NamedTuple):
    """The items that a training step scores: each position's target, and the negatives that all share."""

    items: Int[Tensor, " k"]  # distinct ids: the items whose rows are needed
    targets: Int[Tensor, " p"]  # indices into `items`, as `negatives` are
    negatives: Int[Tensor, " m"]
    log_expected: Float[Tensor, " m"] | None

    @property
    def scored(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The arguments of `sampled_cross_entropy` after states and the rows of `items`."""
        return self.targets, self.negatives, self.log_expected

    def negative_ids(self) -> Int[np.ndarray, " m"]:
        """Return the negatives' ids."""
        return self.items[self.negatives].cpu().numpy()


class NegativeSampler(nn.Module):
    """Samples items with replacement, by their training counts."""

    probabilities: Tensor

    def __init__(self, settings: NegativeParams, counts: Int[Tensor, " n"]) -> None:
        """Prepare sampling by `settings` from items that occur `counts` times in training parts."""
        super().__init__()
        self.settings = settings
        weights = (counts.double() + 1) ** settings.negatives_power
        self.register_buffer("probabilities", weights / weights.sum(), persistent=False)

    def sample(self, generator: torch.Generator | None = None) -> Int[Tensor, " m"]:
        """Return a batch's negatives, by default from the global generator."""
        device, count = self.probabilities.device, self.settings.negatives
        if self.settings.negatives_power == 0:
            return torch.randint(len(self.probabilities), (count,), device=device, generator=generator)
        return torch.multinomial(self.probabilities, count, replacement=True, generator=generator)

    def log_expected(self, negatives: Int[Tensor, " m"]) -> Float[Tensor, " m"] | None:
        """Return log(m * q) of each negative, q being the probability of sampling it; None without the correction."""
        return (self.probabilities[negatives] * len(negatives)).log().float() if self.settings.logq else None

    def candidates(self, targets: Int[Tensor, " p"], seed: int) -> SampledCandidates:
        """Return `targets` and negatives that depend on `seed` alone, not on the global generator."""
        negatives = self.sample(torch.Generator(self.probabilities.device).manual_seed(seed))
        items, rows = torch.unique(torch.cat([targets, negatives]), return_inverse=True)
        target_rows, negative_rows = rows.split([len(targets), len(negatives)])
        return SampledCandidates(items, target_rows, negative_rows, self.log_expected(negatives))
