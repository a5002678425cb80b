"""A sequential recommender: item embeddings, an encoder, and the loss of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.sequences.negatives import NegativeSampler, SampledCandidates
from sidflow.sequences.windows import Windows, padding_mask, skip_items
from sidflow.sequential.encoders import GruEncoder, TransformerEncoder
from sidflow.sequential.params import Bert4recParams, Gru4recParams, SasrecParams, SequenceParams
from sidflow.training.softmax import RankLoss, TrainingScores, binary_cross_entropy, softmax_loss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class ContentPart(NamedTuple):
    """What content alone brings to the item vectors."""

    values: Float[Tensor, "n d"]
    present: Bool[Tensor, " n"]  # has any content


class ItemEmbedding(nn.Module, ABC):
    """The interface of item embedding modules."""

    count: int  # n, the core items

    @abstractmethod
    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all."""

    def auxiliary(self, batch: Callable[[], Int[Tensor, " k"]]) -> dict[str, tuple[float, Tensor]]:
        """Return further losses over the distinct items that `batch` returns, by name, each with its weight."""
        return {}

    def content(self) -> ContentPart | None:
        """Return the part of all item vectors that content brings, without gradients; None where it brings nothing."""
        return None


class IdEmbedding(ItemEmbedding):
    """One free vector per item."""

    def __init__(self, count: int, dimensions: int, std: float = 0.02) -> None:
        """Sample `count` vectors from a normal distribution with deviation `std`, by the global generator."""
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.randn(count, dimensions) * std)

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all."""
        return self.weight if ids is None else functional.embedding(ids, self.weight)


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
        unmasked = padding_mask(self.lengths, self.inputs.shape[1])
        if self.masked is not None:
            unmasked = unmasked & ~self.masked
        return torch.unique(torch.cat([self.inputs[unmasked], self.targets]))


def next_items(
    items: Int[Tensor, "b t_plus_1"], lengths: Int[Tensor, " b"], columns: Int[Tensor, "b t_plus_1"]
) -> Examples:
    """Each item but the last is an input, the one after it the target; `columns` say where in its window each was."""
    inputs, targets = items[:, :-1], items[:, 1:]
    lengths = lengths - 1
    positions = padding_mask(lengths, inputs.shape[1]).flatten().nonzero()[:, 0]
    last, predicted = (part.flatten()[positions] for part in (columns[:, :-1], columns[:, 1:]))
    return Examples(inputs, None, lengths, positions, targets.flatten()[positions], last, predicted)


def cloze_items(
    items: Int[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    columns: Int[Tensor, "b t"],
    mask_share: float,
    query_share: float,
) -> Examples:
    """Mask some items, at least one of each row, and predict them: a cloze task (arXiv 1904.06690, section 3.6).

    Deviation: some rows end at a random position, with just the item there masked. The paper masks the
    last item of whole sequences for that purpose, which shows the model each user's same single query every time.

    For a score prior a position's history holds all of the user's items before it, as in a query.

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
    # 2 or more: an item precedes the target
    query_lengths = (torch.rand(b, device=device) * (lengths - 1)).long() + 2
    as_query = torch.rand(b, device=device) < query_share
    lengths = torch.where(as_query, query_lengths.clamp(max=lengths), lengths)
    last = torch.arange(t, device=device)[None, :] == lengths[:, None] - 1
    masked = (torch.rand(b, t, device=device) < mask_share) & padding_mask(lengths, t)
    masked = torch.where((as_query | ~masked.any(1))[:, None], last, masked)
    positions = masked.flatten().nonzero()[:, 0]
    inputs = items.masked_fill(masked | ~padding_mask(lengths, t), 0)
    predicted = columns.flatten()[positions]
    return Examples(inputs, masked, lengths, positions, items.flatten()[positions], predicted - 1, predicted)


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

    def candidates(self, inputs: Int[Tensor, "b t"], targets: Int[Tensor, " p"]) -> SampledCandidates:
        """Return what a sampled loss scores; its negatives are sampled by the global generator.

        `items` holds the `inputs` too, since their vectors are needed as well.
        """
        negatives = self.negatives.sample()
        items, rows = torch.unique(torch.cat([inputs.flatten(), targets, negatives]), return_inverse=True)
        _, target_rows, negative_rows = rows.split([inputs.numel(), len(targets), len(negatives)])
        return SampledCandidates(items, target_rows, negative_rows, self.negatives.log_expected(negatives))

    def forward(self, scores: TrainingScores) -> Float[Tensor, ""]:
        """Return the mean loss over the positions of a batch."""
        if self.settings.loss != "bce":
            return softmax_loss(scores)
        assert scores.candidates is not None
        targets, negatives, _ = scores.candidates.scored
        return binary_cross_entropy(scores.states, scores.item_matrix, targets, negatives)


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
            return cloze_items(items, lengths, columns, self.settings.mask_share, self.settings.query_share)
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
        scored_table = self.item_dropout(table)
        input_table = table if self.settings.item_dropout_by == "place" else scored_table
        states = self.states(inputs, input_table, examples).flatten(0, 1).index_select(0, examples.positions)
        first = 0 if starts is None else starts[examples.positions // examples.inputs.shape[1]]
        scores = TrainingScores(
            states, scored_table, examples.targets, candidates, first + examples.last, first + examples.predicted
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
