"""MME-SID: item tokens through a language model, scored by frequency-aware fusion, trained at every position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.contracts.histories import Histories
from sidflow.hybrid.prior import ScorePrior
from sidflow.hybrid.task import RankingTask
from sidflow.llm import windows
from sidflow.llm.adapter import add_adapter
from sidflow.llm.backbones import Backbone
from sidflow.llm.fusion import FrequencyAwareFusion
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.item_tokens import ItemTokens
from sidflow.llm.params import FinetuneParams
from sidflow.llm.prompt import tokenize_prompt
from sidflow.llm.reader import PromptedBackbone
from sidflow.llm.windows import Drawn
from sidflow.losses.catalogue_softmax import catalogue_cross_entropy, sampled_cross_entropy
from sidflow.losses.negatives import NegativeSampler
from sidflow.training.scores import RankLoss, TrainingScores

if TYPE_CHECKING:
    from jaxtyping import Float

BLOCK_ITEMS = 65_536  # items whose tokens are made at a time
BLOCK_TOKENS = 16_384  # tokens, the instruction's included, that are encoded at a time outside of training


class MmeSid(nn.Module):
    """The model; `forward` takes rows of `pieces` and returns the loss over all their positions."""

    def __init__(
        self,
        backbone: Backbone,
        inputs: ItemInputs,
        histories: Histories,
        params: FinetuneParams,
    ) -> None:
        """Put fresh heads and a fresh adapter around `backbone`."""
        super().__init__()
        hidden = backbone.model.config.get_text_config().hidden_size
        prompt = tokenize_prompt(backbone.tokenizer, params.prompt)
        self.backbone = PromptedBackbone(add_adapter(backbone.model, params.lora), prompt, params.readout)
        self.item_tokens = ItemTokens(inputs.modalities, hidden, params)
        self.item_dropout = nn.Dropout(params.item_dropout)
        self.fusion = FrequencyAwareFusion(inputs, hidden, params)
        self.negatives = NegativeSampler(params, torch.from_numpy(inputs.counts)) if params.loss == "sampled" else None
        self.histories, self.pieces = histories, windows.cut(histories, params.max_length)
        self.items, self.max_length, self.skip_share = inputs.items, params.max_length, params.skip_share

    def forward(self, batch: Tensor | Drawn, rank_loss: RankLoss | None = None) -> dict[str, Tensor]:
        """Return the mean cross-entropy of every next item in the batch's pieces.

        Args:
            batch: rows of `pieces`, for a softmax over all core items; with a seed, over targets and drawn negatives.
            rank_loss: the loss of the scores, of a hybrid; None: their own cross-entropy.
        """
        rows, seed = batch if isinstance(batch, Drawn) else (batch, None)
        device = self.fusion.table.device
        chosen = rows.cpu().numpy()  # DDP moves its input to the device
        start, length = self.pieces.start[chosen], self.pieces.length[chosen]
        places, there = windows.places(start, length, self.skip_share if self.training else 0.0)
        foretold = there[:, 1:]  # an input is real where something follows it
        items = self.pieces.items[places].astype(np.int64)
        history = torch.from_numpy(items[:, :-1] * foretold).to(device)
        target, real = (torch.from_numpy(part).to(device) for part in (items[:, 1:], foretold))
        reads = torch.arange(history.shape[1], device=device).expand(len(history), -1)
        states = self.backbone(self.item_tokens.of_sequences(history), reads)
        candidates = None
        if seed is not None:
            assert self.negatives is not None
            candidates = self.negatives.candidates(target[real], seed)
        matrix = self.fusion.item_matrix() if candidates is None else self.fusion.rows_of(candidates.items)
        matrix = self.item_dropout(matrix)
        last, predicted = (torch.from_numpy(events[foretold]) for events in (places[:, :-1], places[:, 1:]))
        scores = TrainingScores(states[real], matrix, target[real], candidates, last, predicted)
        return {"loss": (rank_loss or cross_entropy)(scores)}

    def all_tokens(self) -> Float[Tensor, "n h"]:
        """Return every catalogue item's token."""
        items = torch.arange(self.items, device=self.fusion.table.device)
        return torch.cat([self.item_tokens(part) for part in items.split(BLOCK_ITEMS)])

    def item_matrix(self) -> Float[Tensor, "n d"]:
        """Return the core items' rows, W_eff."""
        return self.fusion.item_matrix()

    @torch.no_grad()
    def query_states(self, histories: Histories, queries: np.ndarray) -> Float[Tensor, "q h"]:
        """Return the states that answer `queries`; their inner products with `item_matrix` are the scores."""
        lengths = np.minimum(histories.query_end[queries], self.max_length)
        starts = histories.offsets[histories.query_user[queries]] + histories.query_end[queries] - lengths
        return encode(self.backbone, self.all_tokens(), histories.items, starts, lengths)


def cross_entropy(scores: TrainingScores) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over all core items, or over the candidates where there are some."""
    if scores.candidates is not None:
        return sampled_cross_entropy(scores.states, scores.item_matrix, *scores.candidates.scored)
    return catalogue_cross_entropy(scores.states, scores.item_matrix, scores.targets)


@torch.no_grad()
def encode(
    backbone: PromptedBackbone, tokens: Float[Tensor, "n h"], items: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> Float[Tensor, "q h"]:
    """Return the state at the end of each history `items[starts[q]:starts[q] + lengths[q]]`.

    Histories of like length go together, so that little is padding; the instruction is computed once. An empty
    history gets a zero state, which ties all items.
    """
    key_values = backbone.instruction_key_values()
    found = torch.zeros(len(starts), tokens.shape[1], device=tokens.device)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        size = max(1, BLOCK_TOKENS // (int(lengths[order[-1]]) + backbone.instruction.shape[1]))
        rows, order = order[-size:], order[:-size]
        history, _ = windows.padded(items, starts[rows], lengths[rows])
        reads = torch.from_numpy(lengths[rows] - 1).to(tokens.device)[:, None]
        states = backbone(functional.embedding(history.to(tokens.device), tokens), reads, key_values)
        found[torch.from_numpy(rows).to(tokens.device)] = states[:, 0]
    return found


class MmeSidTask(RankingTask):
    """MME-SID as the training loop sees it."""

    def __init__(
        self, model: MmeSid, histories: Histories, params: FinetuneParams, prior: ScorePrior | None = None
    ) -> None:
        """Hold what batches and validation need; with a `prior` the model is the base of a hybrid."""
        super().__init__(model, histories, len(model.fusion.table), prior)
        self.model, self.histories, self.params = model, histories, params

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor | Drawn]:
        """Return rows of pieces, shuffled, of like length within a batch; with seeds for a sampled loss."""
        batches = windows.batches(self.model.pieces.length, self.params.batch_size, generator)
        return windows.with_seeds(batches, generator) if self.params.loss == "sampled" else batches

    def split_batch(self, batch: Tensor | Drawn, rank: int, count: int) -> tuple[Tensor | Drawn, float]:
        """Return every `count`th row from `rank` on, and its share of the positions that the batch foretells."""
        everything, length = batch.rows if isinstance(batch, Drawn) else batch, self.model.pieces.length
        rows = everything[rank::count]
        share = float(length[rows.numpy()].sum() / length[everything.numpy()].sum())
        rows = rows if len(rows) else everything[:1]
        return (batch._replace(rows=rows) if isinstance(batch, Drawn) else rows), share

    def validation_factors(self) -> tuple[Float[Tensor, "q h"], Float[Tensor, "n h"]]:
        """Return the states of the validation queries, and the item rows."""
        return self.model.query_states(self.histories, self.validation.queries), self.model.item_matrix()
