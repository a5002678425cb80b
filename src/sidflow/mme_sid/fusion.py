"""Frequency-aware fusion: the item rows that MME-SID scores by, of core items and of cold ones.

    core item:  W_eff[i]  = w_x E_x[i] + sum over modalities m: w_m (W_m E_m[i] + b_m)
    cold item:  W_cold[i] =              sum over modalities m: w_m (W_m E_m[i] + b_m)

E_x is a learned table, E_m are the frozen rows of a modality. The weights w depend on how often the item occurs in
training, or are all 1: `FrequencyAwareFusion`. A cold item, outside the core, has no row in the table. Its weights are
those of relative frequency 0, by a softmax over its modalities alone, or 1; without a modality it has no row:
`cold_rows`.

Source: MME-SID (arXiv 2509.02017), Eqs. 17-18. Cold items are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.training.checkpoint import module_key
from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from sidflow.hybrid.prior import ScorePrior
    from sidflow.mme_sid.item_tokens import ItemInputs
    from sidflow.mme_sid.params import FinetuneParams


FREQUENCY_HIDDEN = 16  # width of the MLP from frequency to weights
TABLE_STD = 0.02  # standard deviation of the learned table at the start


def relative_frequency(counts: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return min-max of log(count + 1): 0 for the rarest item, 1 for the most frequent; zeros where all are equal."""
    logs = np.log1p(counts.astype(np.float64))
    spread = logs.max(initial=0) - logs.min(initial=np.inf)
    return ((logs - logs.min()) / spread if spread > 0 else np.zeros_like(logs)).astype(np.float32)


class FrequencyAwareFusion(nn.Module):
    """The score of item i for the state o: w_x (o . E_x[i]) + sum over modalities m of w_m (o . (W_m E_m[i] + b_m)).

    E_x is a learned table, E_m are the modality's frozen rows. The weights belong to the item: they are
    softmax(MLP(relative frequency) / temperature) over the parts that the item has. A missing modality has weight
    zero; the learned table is always present. The MLP's last layer starts at zero, so that all parts have equal
    weight at first; with `part_weights: equal` they keep it. With `one` every part that an item has weighs 1: the parts
    are added, as SASRec with features adds them.

    The weights depend on the item alone, so that the score is o . W_eff[i] with
    W_eff[i] = w_x E_x[i] + sum over m of w_m (W_m E_m[i] + b_m): one matrix for exact search.

    With `cold_dropout`, each training step scores a random share of the items as items outside the core are scored
    (see `ColdRows`): at frequency 0, by the parts that such items can have.

    Source: MME-SID (arXiv 2509.02017), Eqs. 17-18. Ours: the folded matrix, `cold_dropout` and `part_weights: one`.
    """

    frequency: Tensor
    usable: Tensor
    cold_parts: Tensor

    def __init__(self, inputs: ItemInputs, hidden: int, params: FinetuneParams) -> None:
        super().__init__()
        core, self.temperature, self.cold_dropout = len(inputs.counts), params.temperature, params.cold_dropout
        self.adds_parts = params.part_weights == "one"
        self.table = nn.Parameter(torch.randn(core, hidden) * TABLE_STD)
        self.project = nn.ModuleDict()
        for name, modality in zip(map(module_key, inputs.modalities), inputs.modalities.values(), strict=True):
            self.project[name] = nn.Linear(modality.raw.shape[1], hidden)
            self.register_buffer(f"raw_{name}", torch.from_numpy(modality.raw[:core].copy()).float(), persistent=False)
        present = [np.ones(core, dtype=bool), *(modality.present[:core] for modality in inputs.modalities.values())]
        self.register_buffer("usable", torch.from_numpy(np.stack(present, 1)), persistent=False)
        cold_parts = [False, *(modality.present[core:].any() for modality in inputs.modalities.values())]
        self.register_buffer("cold_parts", torch.tensor(cold_parts), persistent=False)
        frequency = torch.from_numpy(relative_frequency(inputs.counts))[:, None]
        self.register_buffer("frequency", frequency, persistent=False)
        self.weigh: nn.Sequential | None = None
        if params.part_weights == "frequency":
            last = nn.Linear(FREQUENCY_HIDDEN, len(present))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.weigh = nn.Sequential(nn.Linear(1, FREQUENCY_HIDDEN), nn.ReLU(), last)

    def part_weights(self, items: Int[Tensor, " k"] | None = None) -> Float[Tensor, "n parts"]:
        """Return each item's weights: of the learned table, then of the modalities in order.

        Args:
            items: core items, each once; None for all of them.
        """
        frequency, usable = self.frequency, self.usable
        if items is not None:
            frequency, usable = frequency[items], usable[items]
        if self.training and self.cold_dropout:
            cold_usable = usable & self.cold_parts
            cold = (torch.rand(len(usable), 1).to(usable.device) < self.cold_dropout) & cold_usable.any(1, keepdim=True)
            frequency, usable = torch.where(cold, 0, frequency), torch.where(cold, cold_usable, usable)
        return self.weights_at(frequency, usable)

    def weights_at(self, frequency: Float[Tensor, "n 1"], usable: Bool[Tensor, "n parts"]) -> Float[Tensor, "n parts"]:
        """Return the weights of items with relative `frequency` and the parts `usable`, at least one each.

        They sum to 1 but for `part_weights: one`. In fp32 under autocast, too: at a low temperature bf16's rounding
        would change the weights.
        """
        if self.adds_parts:
            return usable.float()
        with full_precision(frequency.device):
            logits = self.weigh(frequency) if self.weigh else torch.zeros_like(usable, dtype=torch.float32)
        return (logits.float() / self.temperature).masked_fill(~usable, -torch.inf).softmax(1)

    def item_matrix(self) -> Float[Tensor, "n h"]:
        """Return W_eff, the rows of all core items."""
        weights = self.part_weights()
        matrix = weights[:, :1] * self.table
        for column, (name, project) in enumerate(self.project.items(), 1):
            matrix = matrix + weights[:, column, None] * project(getattr(self, f"raw_{name}"))
        return matrix

    def rows_of(self, items: Int[Tensor, " k"]) -> Float[Tensor, "k h"]:
        """Return the rows of `item_matrix` of `items` alone; each item stands once."""
        weights = self.part_weights(items)
        rows = weights[:, :1] * functional.embedding(items, self.table)
        for column, (name, project) in enumerate(self.project.items(), 1):
            rows = rows + weights[:, column, None] * project(getattr(self, f"raw_{name}")[items])
        return rows


class ColdRows(NamedTuple):
    """Rows of the items outside the core: row c is that of item core + c of the catalogue."""

    values: Float[np.ndarray, "c d"]  # as wide as the rows of the core's item matrix; zero where absent
    present: Bool[np.ndarray, " c"]


@torch.no_grad()
def cold_rows(fusion: FrequencyAwareFusion, inputs: ItemInputs, prior: ScorePrior | None = None) -> ColdRows:
    """Return the rows of all items outside the core, with the content rows of `prior` to the right of them.

    Co-occurrence gives no evidence for such items.
    """
    modal, present = modal_rows(fusion, inputs, slice(len(inputs.counts), None))
    content = [] if prior is None else [rows[len(inputs.counts) :] for rows in prior.content_rows().values()]
    values = np.concatenate([modal, *(part.cpu().numpy() for part in content)], 1)
    return ColdRows(np.where(present[:, None], values, 0).astype(np.float32), present)


def modal_rows(fusion: FrequencyAwareFusion, inputs: ItemInputs, items: slice) -> ColdRows:
    """Return W_cold of the catalogue items in the slice `items`; those in the core count as cold, too."""
    present = np.stack([modality.present[items] for modality in inputs.modalities.values()], 1)
    device = fusion.table.device
    usable = torch.from_numpy(np.concatenate([np.zeros((len(present), 1), dtype=bool), present], 1)).to(device)
    usable[:, 0] = ~usable.any(1)  # of an item without a modality: keeps the softmax finite, the row is not used
    weights = fusion.weights_at(torch.zeros(len(usable), 1, device=device), usable)
    total = torch.zeros(len(usable), fusion.table.shape[1], device=device)
    parts = zip(inputs.modalities.values(), fusion.project.values(), strict=True)
    for column, (modality, project) in enumerate(parts, 1):
        raw = torch.from_numpy(modality.raw[items].copy()).float().to(device)
        total = total + weights[:, column, None] * project(raw)
    return ColdRows(total.float().cpu().numpy(), present.sum(1) > 0)
