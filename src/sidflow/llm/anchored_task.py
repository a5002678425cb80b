"""Anchored MME-SID as the training loop sees it: weights of the anchor at their own rate, evidence in validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from sidflow.contracts.histories import Histories
from sidflow.llm import evidence
from sidflow.llm.anchor import Anchor
from sidflow.llm.model import MmeSid, MmeSidTask
from sidflow.llm.params import FinetuneParams
from sidflow.training.device import full_precision
from sidflow.training.validation import Validation, entries, figures_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class AnchoredTask(MmeSidTask):
    """As without an anchor, but for what stands in the first line of this file."""

    validation: AnchoredValidation

    def __init__(self, module: MmeSid, histories: Histories, params: FinetuneParams) -> None:
        """Look up the validation queries' evidence once: counts do not change while training."""
        super().__init__(module, histories, params)
        assert module.anchor is not None
        self.anchor = module.anchor
        self.validation = AnchoredValidation(histories, len(module.fusion.table), module.anchor)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the anchor's weights, with their own learning rate and no weight decay, apart from all others."""
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith("anchor.")].append(parameter)
        anchor = {"params": groups[True], "weight_decay": 0.0, "rate_factor": self.params.anchoring.rate_factor}
        return [{"params": groups[False]}, anchor]

    def validate(self) -> dict[str, float]:
        """Choose the weight of MME-SID's own part; return NDCG@10 and recall@10 of the validation queries."""
        weights = self.params.anchoring.own_weights
        if not len(self.validation.queries):
            return {}
        states = self.model.own_states(self.histories, self.validation.queries)
        ranks = self.validation.ranks_by_weight(states, self.model.fusion.item_matrix(), weights)
        reached = [figures_of(one) for one in ranks]
        best = max(range(len(weights)), key=lambda place: (reached[place]["valid_ndcg_at_10"], -place))
        self.anchor.own.fill_(weights[best])
        return reached[best]


class AnchoredValidation(Validation):
    """Full ranking of the validation queries, by inner products and what evidence adds to them."""

    def __init__(self, histories: Histories, items: int, anchor: Anchor) -> None:
        """Select the validation queries."""
        super().__init__(histories, items)
        self.anchor = anchor
        self.ends = evidence.of_queries(histories, self.queries)
        self.found = anchor.evidence(self.ends)

    def ranks_by_weight(
        self, query_states: Float[Tensor, "q h"], item_matrix: Float[Tensor, "n h"], weights: Sequence[float]
    ) -> Int[Tensor, "w q"]:
        """Return each target's rank among the candidates, 1 = best, ties against the target, for each own weight.

        Args:
            query_states: of MME-SID alone, rows as in `self.queries`.
            item_matrix: W_eff.
            weights: of MME-SID's own part in the score.
        """
        device = query_states.device
        ranks = torch.zeros(len(weights), len(self.queries), dtype=torch.int64)
        with full_precision(device):
            content = self.anchor.content(query_states, self.ends).float()
        rows_of = self.anchor.item_matrix(item_matrix)[:, item_matrix.shape[1] :].float()
        for block in self.blocks(device):
            with full_precision(device):
                own = query_states[block.rows].float() @ item_matrix.float().T
                anchor = content[block.rows] @ rows_of.T
            part = csr_matrix(self.found[block.rows])
            if part.nnz:
                anchor[entries(part, device)] += self.anchor.weigh(torch.from_numpy(part.data).to(device)).float()
            for place, weight in enumerate(weights):
                ranks[place, block.rows] = block.ranks(weight * own + anchor).cpu()
        return ranks
