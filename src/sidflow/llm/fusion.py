"""Frequency-aware fusion: four ways to score an item, weighed by how often it was bought, folded into one matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.llm.inputs import ItemInputs
from sidflow.llm.params import FinetuneParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

WIDTH = 16  # of the MLP from frequency to weights


def relative_frequency(counts: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return min-max of log(count + 1): 0 for the rarest item, 1 for the most frequent; zeros where all are alike."""
    logs = np.log1p(counts.astype(np.float64))
    spread = logs.max(initial=0) - logs.min(initial=np.inf)
    return ((logs - logs.min()) / spread if spread > 0 else np.zeros_like(logs)).astype(np.float32)


class FrequencyAwareFusion(nn.Module):
    """The score w_x (o . E_x) + sum over modalities of w_m (o . (W_m SG(E_m) + b_m)), as one matrix.

    The weights are the target item's own: softmax(MLP(relative frequency) / temperature) over the parts that the
    item has (a missing modality has weight zero; the learned table E_x is always there). The MLP's last layer
    starts at zero, so that all parts weigh the same at first; without frequency-awareness they stay so.
    Since the weights depend on the item alone, the score is o . W_eff[i] with
    W_eff[i] = w_x E_x[i] + sum w_m (W_m E_m[i] + b_m).

    With `cold_dropout` a random share of the items is scored, anew in each training step, as items outside the core
    are (see `sidflow.llm.cold`): at frequency 0, by those parts alone that such items have (ours).

    Source: MME-SID (arXiv 2509.02017), Eqs. 17-18; folding is ours.
    """

    frequency: Tensor
    usable: Tensor
    of_cold: Tensor

    def __init__(self, inputs: ItemInputs, hidden: int, params: FinetuneParams) -> None:
        super().__init__()
        core, self.temperature, self.cold_dropout = len(inputs.counts), params.temperature, params.cold_dropout
        self.table = nn.Parameter(torch.randn(core, hidden) * 0.02)
        self.project = nn.ModuleDict()
        for name, modality in inputs.modalities.items():
            self.project[name] = nn.Linear(modality.raw.shape[1], hidden)
            self.register_buffer(f"raw_{name}", torch.from_numpy(modality.raw[:core].copy()).float(), persistent=False)
        present = [np.ones(core, dtype=bool), *(modality.present[:core] for modality in inputs.modalities.values())]
        self.register_buffer("usable", torch.from_numpy(np.stack(present, 1)), persistent=False)
        of_cold = [False, *(modality.present[core:].any() for modality in inputs.modalities.values())]
        self.register_buffer("of_cold", torch.tensor(of_cold), persistent=False)
        frequency = torch.from_numpy(relative_frequency(inputs.counts))[:, None]
        self.register_buffer("frequency", frequency, persistent=False)
        self.weigh: nn.Sequential | None = None
        if params.frequency_aware:
            last = nn.Linear(WIDTH, len(present))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.weigh = nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), last)

    def part_weights(self, items: Int[Tensor, " k"] | None = None) -> Float[Tensor, "n parts"]:
        """Return each item's weights: of the learned table, then of the modalities in order; rows sum to 1.

        Args:
            items: of the core, each once; None: all.
        """
        frequency, usable = self.frequency, self.usable
        if items is not None:
            frequency, usable = frequency[items], usable[items]
        if self.training and self.cold_dropout:
            left = usable & self.of_cold
            cold = (torch.rand(len(usable), 1).to(usable.device) < self.cold_dropout) & left.any(1, keepdim=True)
            frequency, usable = torch.where(cold, 0, frequency), torch.where(cold, left, usable)
        return self.weights_at(frequency, usable)

    def weights_at(self, frequency: Float[Tensor, "n 1"], usable: Bool[Tensor, "n parts"]) -> Float[Tensor, "n parts"]:
        """Return the weights of items of relative `frequency` that have the parts `usable`, one at least."""
        logits = self.weigh(frequency) if self.weigh else torch.zeros_like(usable, dtype=torch.float32)
        return (logits.float() / self.temperature).masked_fill(~usable, -torch.inf).softmax(1)

    def item_matrix(self) -> Float[Tensor, "n h"]:
        """Return W_eff of the core items."""
        weights = self.part_weights()
        matrix = weights[:, :1] * self.table
        for column, (name, project) in enumerate(self.project.items(), 1):
            matrix = matrix + weights[:, column, None] * project(getattr(self, f"raw_{name}"))
        return matrix

    def rows_of(self, items: Int[Tensor, " k"]) -> Float[Tensor, "k h"]:
        """Return the rows of `item_matrix` that belong to `items`, each once, without making the others."""
        weights = self.part_weights(items)
        rows = weights[:, :1] * functional.embedding(items, self.table)
        for column, (name, project) in enumerate(self.project.items(), 1):
            rows = rows + weights[:, column, None] * project(getattr(self, f"raw_{name}")[items])
        return rows
