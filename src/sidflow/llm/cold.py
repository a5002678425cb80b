"""Rows of items outside the core, so that they can be ranked beside the candidates that training knew.

    W_cold[i] = sum over the modalities that i has: w_m (W_m E_m[i] + b_m)

It is the core's formula less the learned table, which has no row of such an item. The weights are those of a relative
frequency of 0 (nobody has had it), renormalised over what is left: softmax over the item's modalities alone. An item
without any modality has no row. In a hybrid with content the item's own content rows stand
beside W_cold; co-occurrence gives no evidence for such items.

Source: MME-SID (arXiv 2509.02017), Eqs. 17-18, for an item that they do not speak of; the renormalising is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from sidflow.hybrid.prior import ScorePrior
from sidflow.llm.fusion import FrequencyAwareFusion
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.model import MmeSid

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class ColdRows(NamedTuple):
    """Row c belongs to the catalogue's item core + c."""

    values: Float[np.ndarray, "c d"]  # as wide as the rows of the core's item matrix; zero where absent
    present: Bool[np.ndarray, " c"]


@torch.no_grad()
def cold_rows(model: MmeSid, inputs: ItemInputs, prior: ScorePrior | None = None) -> ColdRows:
    """Return the rows of all items outside the core, with the content rows of `prior` beside them."""
    own, present = modal_rows(model.fusion, inputs, slice(len(inputs.counts), None))
    beside = [] if prior is None else [rows[len(inputs.counts) :] for rows in prior.content_rows()]
    values = np.concatenate([own, *(part.cpu().numpy() for part in beside)], 1)
    return ColdRows(np.where(present[:, None], values, 0).astype(np.float32), present)


def modal_rows(fusion: FrequencyAwareFusion, inputs: ItemInputs, which: slice) -> ColdRows:
    """Return W_cold of the items `which`, as if nobody had had any of them."""
    present = np.stack([modality.present[which] for modality in inputs.modalities.values()], 1)
    device = fusion.table.device
    usable = torch.from_numpy(np.concatenate([np.zeros((len(present), 1), dtype=bool), present], 1)).to(device)
    usable[:, 0] = ~usable.any(1)  # weights of an item without anything: no matter, it gets no row
    weights = fusion.weights_at(torch.zeros(len(usable), 1, device=device), usable)
    total = torch.zeros(len(usable), fusion.table.shape[1], device=device)
    for column, (name, modality) in enumerate(inputs.modalities.items(), 1):
        raw = torch.from_numpy(modality.raw[which].copy()).float().to(device)
        total = total + weights[:, column, None] * fusion.project[name](raw)
    return ColdRows(total.float().cpu().numpy(), present.sum(1) > 0)
