"""The recurrent encoder of GRU4Rec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from sidflow.recommenders.neural.params import Gru4recParams

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class GruEncoder(nn.Module):
    """Encodes item vectors as states with a GRU.

    Source: Hidasi et al. 2016 (arXiv 1511.06939), section 3.1, and Hidasi and Karatzoglou 2018 (arXiv 1706.03847)
    for the softmax loss. Deviations: users' sequences in place of session-parallel batches; a linear map from the
    recurrent state to the item space.
    """

    def __init__(self, settings: Gru4recParams) -> None:
        """Make the network that `settings` describe."""
        super().__init__()
        self.causal = True
        self.longest = settings.max_length
        self.dropout = nn.Dropout(settings.dropout)
        inner = settings.dropout if settings.layers > 1 else 0.0
        self.gru = nn.GRU(settings.dimensions, settings.hidden, settings.layers, batch_first=True, dropout=inner)
        self.output = nn.Linear(settings.hidden, settings.dimensions)

    def forward(self, vectors: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """Return a state for each position; padding is on the right and changes no state before it."""
        states, _ = self.gru(self.dropout(vectors * vectors.shape[2] ** 0.5))  # large enough to move the gates
        return self.output(self.dropout(states))
