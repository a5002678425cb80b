"""What training minimises: the negative log-probability of the next item's ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sidflow.generative.causal import CausalIdModel
from sidflow.generative.decoding import next_log_probs
from sidflow.generative.encoder_decoder import EncoderDecoderIdModel
from sidflow.generative.ranking import CandidateTree
from sidflow.generative.vocabulary import ItemIds, Normalise
from sidflow.sequences.windows import Windows

if TYPE_CHECKING:
    from jaxtyping import Float, Int

IdModule = CausalIdModel | EncoderDecoderIdModel


class IdLosses(nn.Module):
    """The negative log-probability of the items that a batch of windows predicts."""

    def __init__(
        self, model: IdModule, windows: Windows, ids: ItemIds, candidates: CandidateTree, by: Normalise
    ) -> None:
        """Take the model, the windows that batches number, the IDs, and what probabilities are shares of."""
        super().__init__()
        self.model, self.windows, self.tree = model, windows, candidates.tree
        self.by: Normalise = by
        self.tokens: Tensor
        self.codes: Tensor
        self.nodes: Tensor
        codes = torch.from_numpy(ids.codes[: candidates.count])
        self.register_buffer("tokens", torch.from_numpy(ids.tokens), persistent=False)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer(
            "nodes", self.tree.prefix_nodes(codes.to(candidates.tree.leaf_items.device)), persistent=False
        )

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the mean over predicted items, of the windows `rows`; an item without an ID is not predicted."""
        items, lengths = (part.to(self.tokens.device) for part in self.windows.padded(rows))
        predictions = self.model.predictions(self.tokens[items], lengths)
        targets = items.gather(1, predictions.items.clamp(min=0))
        counted = (predictions.items >= 0) & (self.codes[targets, 0] >= 0)
        return {"loss": self.mean_loss(predictions.states[counted], targets[counted])}

    def mean_loss(self, states: Float[Tensor, "p l d"], targets: Int[Tensor, " p"]) -> Float[Tensor, ""]:
        """Return the mean negative log-probability of the IDs of `targets`, from the states before each token."""
        total = states.sum() * 0.0
        for level in range(self.tree.levels):
            log_probs, _ = next_log_probs(
                self.model, self.tree, states[:, level], level, self.nodes[targets, level], self.by
            )
            total = total - log_probs.gather(1, self.codes[targets, level][:, None]).sum()
        return total / max(1, len(targets))
