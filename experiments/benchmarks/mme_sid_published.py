"""MME-SID trained and asked the published way, written from its description; none of its code is part of this.

One sample per prefix of a history. Each row of a batch holds the whole instruction, the item tokens of its prefix and
the response marker; it is padded on the left to the longest row of the batch, and the state of the last place scores
all items through a plain softmax. Batches of 16 samples in random order. Samples with an empty history (nothing but
the instruction) are left out, so that both sides learn the same targets: that is in favour of this side.

What the paper leaves open is done as well as ours does it: item tokens, heads, LoRA, initial weights, optimizer and
training loop are this project's own, an item that a batch holds twice gets its token computed once, and the four parts
of the score are folded into one matrix a step.
Source: MME-SID (arXiv 2509.02017), stage 2, and its public code as described in the project's notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.mme_sid.fusion import FrequencyAwareFusion
from sidflow.mme_sid.model import MmeSid
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import Windows
from sidflow.training.validation import Validation

if TYPE_CHECKING:
    from jaxtyping import Float

BATCH = 16  # samples, as published
WARMUP_STEPS = 100  # as published
RATE = 3e-4  # learning rate, as published
ASKED = 256  # histories at a time where time does not matter


class Samples(NamedTuple):
    """Sample s reads `items[start[s]:start[s] + length[s]]` and foretells the item after these."""

    start: np.ndarray  # int64 [s]
    length: np.ndarray  # int64 [s]


def samples(histories: Histories, longest: int) -> Samples:
    """Return every prefix of every training part but the empty one, its last `longest` items."""
    user, _ = histories.training_events()
    first = np.concatenate([[0], np.cumsum(histories.train_end)[:-1]])
    position = np.arange(len(user)) - np.repeat(first, histories.train_end)
    user, position = user[position > 0], position[position > 0]
    length = np.minimum(position, longest)
    return Samples(histories.offsets[user] + position - length, length)


class Published(nn.Module):
    """The parts of `model`, used the published way; `forward` takes rows of `samples`."""

    def __init__(self, model: MmeSid, marked: bool = True) -> None:
        """Take a model whose prompt has a response marker; without `marked` the last item's own state is read."""
        super().__init__()
        self.marker = model.backbone.marker if marked else model.backbone.marker[:0]
        assert len(self.marker) or not marked, "the published form reads a response marker: put words after {history}"
        self.model = model
        self.samples = samples(model.histories, model.max_length)

    def states(self, items: np.ndarray, start: np.ndarray, length: np.ndarray) -> Float[Tensor, "b h"]:
        """Return the states at the end of rows [padding; instruction; items; marker]."""
        reader, device = self.model.backbone, self.model.fusion.table.device
        windows = Windows(*(torch.from_numpy(part.astype(np.int64)) for part in (items, start, length)))
        history = windows.padded(torch.arange(len(start)))[0].to(device)
        rows, longest = history.shape
        before, after = reader.embed_tokens(reader.instruction), reader.embed_tokens(self.marker)[None]
        tokens = self.model.item_tokens.of_sequences(history).to(before.dtype)
        inputs = torch.cat([before.expand(rows, -1, -1), tokens, after.expand(rows, -1, -1)], 1)
        place = torch.arange(inputs.shape[1], device=device)
        gap = longest - torch.from_numpy(length).to(device)[:, None]
        moved = place - gap  # place in the row, not counting its padding
        source = torch.where(place < inputs.shape[1] - after.shape[1], moved.clamp(min=0), place)
        inputs = inputs.gather(1, source[..., None].expand(-1, -1, inputs.shape[2]))
        output = reader.decoder(
            inputs_embeds=inputs, attention_mask=(moved >= 0).long(), position_ids=moved.clamp(min=0), use_cache=False
        )
        return output.last_hidden_state[:, -1].float()

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the mean cross-entropy of the samples' targets, softmax over all core items."""
        start, length = self.samples.start[rows.numpy()], self.samples.length[rows.numpy()]
        items = self.model.histories.items
        target = torch.from_numpy(items[start + length].astype(np.int64)).to(self.model.fusion.table.device)
        matrix = self.model.item_dropout(self.model.fusion.item_matrix())
        return {"loss": functional.cross_entropy(self.states(items, start, length) @ matrix.T, target)}

    @torch.no_grad()
    def query_states(self, queries: np.ndarray) -> Float[Tensor, "q h"]:
        """Return the states that answer `queries`, for a look at the quality; zero where there is no history."""
        histories = self.model.histories
        length = np.minimum(histories.query_end[queries], self.model.max_length)
        start = histories.offsets[histories.query_user[queries]] + histories.query_end[queries] - length
        output = torch.zeros(len(queries), self.model.fusion.table.shape[1])
        order = np.argsort(length, kind="stable")
        order = order[length[order] > 0]
        for rows in np.split(order, range(ASKED, len(order), ASKED)) if len(order) else []:
            output[torch.from_numpy(rows)] = self.states(histories.items, start[rows], length[rows]).cpu()
        return output


class PublishedTask:
    """The published way as the training loop sees it."""

    module: nn.Module

    def __init__(self, module: Published) -> None:
        """Hold what batches and validation need."""
        self.module, self.published = module, module
        self.validation = Validation(module.model.histories, len(module.model.fusion.table))

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Return all samples in random order."""
        return torch.randperm(len(self.published.samples.start), generator=generator).split(BATCH)

    def validate(self) -> Mapping[str, float]:
        """Return nDCG@10 and recall@10 of the validation queries."""
        states = self.published.query_states(self.validation.queries)
        return self.validation.metrics(states, self.published.model.fusion.item_matrix().cpu())


def scores_from_parts(fusion: FrequencyAwareFusion, states: Float[Tensor, "b h"]) -> Float[Tensor, "b n"]:
    """Return the four-part score from its equations (17 and 18), nothing kept from one call to the next."""
    weights = fusion.part_weights()
    scores = weights[:, 0] * (states @ fusion.table.T)
    for column, (name, project) in enumerate(fusion.project.items(), 1):
        scores = scores + weights[:, column] * (states @ project(getattr(fusion, f"raw_{name}")).T)
    return scores
