"""MME-SID: item tokens through a language model, scored by frequency-aware fusion, trained at every position.

    item ids -> ItemTokens -> PromptedBackbone -> query state o;  score of item i = o . FrequencyAwareFusion row of i

The three parts are in `item_tokens`, `prompted_backbone` and `fusion`. `MmeSid` joins them; `MmeSidTask` is what the
training loop sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.backbones.adapter import add_adapter
from sidflow.backbones.models import Backbone
from sidflow.backbones.prompted_backbone import PromptedBackbone, tokenize_prompt
from sidflow.hybrid.prior import ScorePrior
from sidflow.hybrid.task import RankingTask
from sidflow.mme_sid.fusion import TABLE_STD, FrequencyAwareFusion, cold_rows
from sidflow.mme_sid.item_tokens import ItemInputs, ItemTokens
from sidflow.mme_sid.params import FinetuneParams
from sidflow.sequences.histories import Histories, require_next_items
from sidflow.sequences.negatives import NegativeSampler
from sidflow.sequences.windows import (
    KeptItems,
    SeededBatch,
    Windows,
    padding_mask,
    query_windows,
    seeded_batches,
    shuffled_batches,
    skip_items,
    training_windows,
)
from sidflow.training.softmax import RankLoss, TrainingScores, softmax_loss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


BLOCK_ITEMS = 65_536  # items whose tokens are computed at a time
POOL_BATCHES = 50  # batches whose windows are sorted by length together
BLOCK_TOKENS = 16_384  # tokens, the instruction's included, that are encoded at a time outside of training


class MmeSid(nn.Module):
    """The whole model; `forward` returns the loss over all positions of some training windows."""

    def __init__(
        self,
        backbone: Backbone,
        inputs: ItemInputs,
        histories: Histories,
        params: FinetuneParams,
    ) -> None:
        """Put fresh heads and a fresh adapter around `backbone`.

        Raises:
            InputError: the backbone cannot take the prompt or `max_length` items, or has no such module for LoRA.
        """
        super().__init__()
        hidden = backbone.model.config.get_text_config().hidden_size
        prompt = tokenize_prompt(backbone.tokenizer, params.prompt)
        self.backbone = PromptedBackbone(add_adapter(backbone.model, params.lora), prompt, params.readout)
        self.backbone.require_positions(params.max_length)
        self.item_tokens = ItemTokens(inputs.modalities, hidden, params)
        self.item_dropout = nn.Dropout(params.item_dropout)
        self.fusion = FrequencyAwareFusion(inputs, hidden, params)
        self.negatives = NegativeSampler(params, torch.from_numpy(inputs.counts)) if params.loss == "sampled" else None
        self.histories, self.windows = histories, training_windows(histories, params.max_length + 1, overlap=1)
        self.inputs, self.max_length, self.skip_share = inputs, params.max_length, params.skip_share
        self.tied_row_factor = 0.0  # of a scored row in its item's token
        if params.tie_item_embeddings:
            self.tied_row_factor = params.row_scale * self.backbone.word_size() / TABLE_STD

    def forward(self, batch: Tensor | SeededBatch, rank_loss: RankLoss | None = None) -> dict[str, Tensor]:
        """Return the mean cross-entropy of every next item in the batch's windows.

        Args:
            batch: rows of `windows`, for a softmax over all core items; with a seed, over targets and negatives where
                the loss samples some.
            rank_loss: the loss of the scores, of a hybrid; None: their own cross-entropy.
        """
        rows, seed, kept = batch if isinstance(batch, SeededBatch) else (batch, None, None)
        device = self.fusion.table.device
        events, mask = self._events(rows.cpu(), kept)  # DDP moves its input to the device
        is_input = mask[:, 1:]  # an input is an item that another one follows
        items = self.windows.items[events]
        history = (items[:, :-1] * is_input).to(device)
        predicting = is_input.to(device)
        targets = items[:, 1:].to(device)[predicting]
        read_positions = torch.arange(history.shape[1], device=device).expand(len(history), -1)
        tokens, lengths = self.history_tokens(history), is_input.sum(1).to(device)
        states = self.backbone(tokens, read_positions, lengths=lengths)
        candidates = None
        if seed is not None and self.negatives is not None:
            candidates = self.negatives.candidates(targets, seed)
        matrix = self.fusion.item_matrix() if candidates is None else self.fusion.rows_of(candidates.items)
        matrix = self.item_dropout(matrix)
        last, predicted = events[:, :-1][is_input], events[:, 1:][is_input]
        scores = TrainingScores(states[predicting], matrix, targets, candidates, last, predicted)
        return {"loss": (rank_loss or softmax_loss)(scores)}

    def _events(
        self, rows: Int[Tensor, " b"], kept: KeptItems | None
    ) -> tuple[Int[Tensor, "b t_plus_1"], Bool[Tensor, "b t_plus_1"]]:
        """Return the events of the windows `rows`, some skipped in training, and which of them are no padding."""
        lengths = self.windows.lengths[rows]
        columns = torch.arange(int(lengths.max())).expand(len(rows), -1)
        if self.training and self.skip_share:
            columns, lengths = self.skipped(rows) if kept is None else KeptItems(*(part.cpu() for part in kept))
            columns = columns[:, : int(lengths.max())]
        mask = padding_mask(lengths, columns.shape[1])
        return torch.where(mask, self.windows.starts[rows, None] + columns, 0), mask

    def skipped(self, rows: Int[Tensor, " b"], generator: torch.Generator | None = None) -> KeptItems:
        """Return what a step keeps of the windows `rows`."""
        lengths = self.windows.lengths[rows]
        return skip_items(lengths, int(lengths.max()), self.skip_share, generator)

    def history_tokens(self, history: Int[Tensor, "b t"]) -> Float[Tensor, "b t h"]:
        """Return the tokens of training histories, with dropout; each item is computed once."""
        tokens = self.item_tokens.of_sequences(history)
        return tokens + self.tied_rows(history) if self.tied_row_factor else tokens

    def tied_rows(self, history: Int[Tensor, "b t"]) -> Float[Tensor, "b t h"]:
        """Return the rows that the items of a history are scored by, at the size of tokens, with dropout."""
        unique, index = torch.unique(history, return_inverse=True)
        return self.item_dropout(functional.embedding(index, self.tied_row_factor * self.fusion.rows_of(unique)))

    @torch.no_grad()
    def all_tokens(self) -> Float[Tensor, "n h"]:
        """Return every catalogue item's token."""
        items = torch.arange(self.inputs.items, device=self.fusion.table.device)
        tokens = torch.cat([self.item_tokens(part) for part in items.split(BLOCK_ITEMS)])
        if not self.tied_row_factor:
            return tokens
        cold = torch.from_numpy(cold_rows(self.fusion, self.inputs).values).to(tokens.device)
        return tokens + self.tied_row_factor * torch.cat([self.item_matrix(), cold])

    def item_matrix(self) -> Float[Tensor, "n d"]:
        """Return the core items' rows, W_eff."""
        return self.fusion.item_matrix()

    @torch.no_grad()
    def query_states(self, histories: Histories, queries: np.ndarray) -> Float[Tensor, "q h"]:
        """Return the states that answer `queries`; their inner products with `item_matrix` are the scores."""
        return encode(self.backbone, self.all_tokens(), query_windows(histories, queries, self.max_length))


@torch.no_grad()
def encode(backbone: PromptedBackbone, tokens: Float[Tensor, "n h"], windows: Windows) -> Float[Tensor, "q h"]:
    """Return the state at the end of each window, on the device of `tokens`.

    Windows of similar length go together; the instruction is computed once. An empty window gets a zero state, which
    ties all items.
    """
    key_values = backbone.instruction_key_values()
    encoded = torch.zeros(len(windows.lengths), tokens.shape[1], device=tokens.device)
    order = torch.argsort(windows.lengths, stable=True)
    order = order[windows.lengths[order] > 0]
    while len(order):
        size = max(1, BLOCK_TOKENS // (int(windows.lengths[order[-1]]) + backbone.instruction.shape[1]))
        rows, order = order[-size:], order[:-size]
        items, lengths = (part.to(tokens.device) for part in windows.padded(rows))
        states = backbone(functional.embedding(items, tokens), lengths[:, None] - 1, key_values, lengths)
        encoded[rows.to(tokens.device)] = states[:, 0]
    return encoded


class MmeSidTask(RankingTask):
    """MME-SID as the training loop sees it."""

    def __init__(
        self, model: MmeSid, histories: Histories, params: FinetuneParams, prior: ScorePrior | None = None
    ) -> None:
        """Hold what batches and validation need; with a `prior` the model is the base of a hybrid.

        Raises:
            InputError: no user has two training items.
        """
        require_next_items(len(model.windows.lengths))
        super().__init__(model, histories, len(model.fusion.table), prior)
        self.model, self.histories, self.params = model, histories, params

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor | SeededBatch]:
        """Return rows of windows, shuffled, of similar length within a batch; with seeds where parts are drawn."""
        batches = shuffled_batches(self.model.windows.lengths, self.params.batch_size, generator, POOL_BATCHES)
        drawn = self.params.loss == "sampled" or self.params.skip_share
        return seeded_batches(batches, generator) if drawn else batches

    def split_batch(self, batch: Tensor | SeededBatch, rank: int, count: int) -> tuple[Tensor | SeededBatch, float]:
        """Return every `count`th row from `rank` on, and its share of the positions that the batch predicts.

        What is skipped is drawn here, of the whole batch, so that all processes know what each of them predicts.
        """
        seeded = isinstance(batch, SeededBatch)
        all_rows = batch.rows if seeded else batch
        kept = None
        if seeded and self.params.skip_share:
            kept = self.model.skipped(all_rows, torch.Generator().manual_seed(batch.seed))
        positions = (self.model.windows.lengths[all_rows] if kept is None else kept.lengths) - 1
        own = slice(rank, None, count) if rank < len(all_rows) else slice(1)
        share = int(positions[rank::count].sum()) / int(positions.sum())
        if not seeded:
            return all_rows[own], share
        own_kept = None if kept is None else KeptItems(kept.columns[own], kept.lengths[own])
        return SeededBatch(all_rows[own], batch.seed, own_kept), share

    def validation_factors(self) -> tuple[Float[Tensor, "q h"], Float[Tensor, "n h"]]:
        """Return the states of the validation queries, and the item rows."""
        return self.model.query_states(self.histories, self.validation.queries), self.model.item_matrix()
