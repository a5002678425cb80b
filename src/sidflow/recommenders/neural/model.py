"""A sequential recommender: an item embedding module, an encoder over its vectors, and the loss of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.recommenders.neural.items import ItemEmbedding
from sidflow.recommenders.neural.objective import Examples, Objective, masked_items, next_items
from sidflow.recommenders.neural.params import Bert4recParams, Gru4recParams, SasrecParams, SequenceParams
from sidflow.recommenders.neural.recurrent import GruEncoder
from sidflow.recommenders.neural.transformer import TransformerEncoder
from sidflow.sequences.windows import Windows, padding_mask, skip_items
from sidflow.training.scores import RankLoss, TrainingScores

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Encoder = TransformerEncoder | GruEncoder


def build_encoder(settings: SequenceParams) -> Encoder:
    """Return the network that `settings` describe, its weights sampled by the global generator."""
    if isinstance(settings, Gru4recParams):
        return GruEncoder(settings)
    assert isinstance(settings, (SasrecParams, Bert4recParams))
    return TransformerEncoder(settings)


class SequenceModel(nn.Module):
    """Any encoder with any item embedding module."""

    def __init__(self, settings: SequenceParams, items: ItemEmbedding, counts: Int[Tensor, " n"]) -> None:
        """Join `items` with the encoder of `settings`; `counts` are the items' training counts."""
        super().__init__()
        self.settings = settings
        self.items = items
        self.encoder = build_encoder(settings)
        self.objective = Objective(settings, counts)
        self.item_dropout = nn.Dropout(settings.item_dropout)

    def examples(self, items: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Examples:
        """Return the inputs and targets of padded training windows."""
        columns = torch.arange(items.shape[1], device=items.device).expand_as(items)
        if self.training and self.settings.skip_share:
            columns, lengths = skip_items(lengths, items.shape[1], self.settings.skip_share)
            items = items.gather(1, columns) * padding_mask(lengths, items.shape[1])
        if isinstance(self.settings, Bert4recParams):
            return masked_items(items, lengths, columns, self.settings.mask_share, self.settings.query_share)
        return next_items(items, lengths, columns)

    def states(
        self, inputs: Int[Tensor, "b t"], table: Float[Tensor, "k d"], examples: Examples
    ) -> Float[Tensor, "b t d"]:
        """Return the encoder's states; `inputs` are rows of `table`."""
        vectors = functional.embedding(inputs, table)
        if self.settings.item_dropout_by == "place":
            vectors = self.item_dropout(vectors)
        if examples.masked is not None:
            assert isinstance(self.encoder, TransformerEncoder)
            vectors = torch.where(examples.masked[..., None], self.encoder.mask_vector, vectors)
        return self.encoder(vectors, examples.lengths)

    def forward(
        self,
        items: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"],
        starts: Int[Tensor, " b"] | None = None,
        rank_loss: RankLoss | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of a batch of padded training windows; `loss` is their weighted sum.

        Args:
            items: the windows, padded.
            lengths: of the windows.
            starts: number of each window's first event; None: 0.
            rank_loss: the loss of the scores; None: that of the settings.
        """
        examples = self.examples(items, lengths)
        inputs, candidates = examples.inputs, None
        if self.objective.sampled:  # only the vectors of this batch: an item embedding module may be expensive
            candidates = self.objective.candidates(inputs, examples.targets)
            table = self.items(candidates.items)
            inputs = torch.searchsorted(candidates.items, inputs.contiguous())
        else:
            table = self.items()
        scored = self.item_dropout(table)
        read = table if self.settings.item_dropout_by == "place" else scored
        states = self.states(inputs, read, examples).flatten(0, 1).index_select(0, examples.positions)
        first = 0 if starts is None else starts[examples.positions // examples.inputs.shape[1]]
        scores = TrainingScores(
            states, scored, examples.targets, candidates, first + examples.last, first + examples.predicted
        )
        losses = {"rank": (rank_loss or self.objective)(scores)}
        total = losses["rank"]
        for name, (weight, loss) in self.items.auxiliary(examples.items).items():
            losses[name] = loss
            total = total + weight * loss
        return {"loss": total, **losses} if len(losses) > 1 else {"loss": total}


class WindowLosses(nn.Module):
    """A model as the training loop wants it: its batches are rows of training windows."""

    def __init__(self, model: SequenceModel, windows: Windows) -> None:
        """Join `model` with the `windows` that it learns from."""
        super().__init__()
        self.model = model
        self.windows = windows

    def forward(self, rows: Int[Tensor, " b"], rank_loss: RankLoss | None = None) -> dict[str, Tensor]:
        """Return the losses of the windows `rows`; `rank_loss` as in `SequenceModel.forward`."""
        items, lengths = self.windows.padded(rows)
        device = next(self.model.parameters()).device
        starts = self.windows.starts[rows].to(device)
        return self.model(items.to(device), lengths.to(device), starts, rank_loss)
