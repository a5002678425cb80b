"""Where MME-SID starts from: tokens that tell items apart, and scores that say `what is like the last item`.

With plain initial weights, unit-length modality rows drown in the biases of the layers above them, and tokens differ
from the words that the language model knows by an arbitrary factor: all items then have nearly the same state.
This changes initial weights alone, no equation (a deviation from the paper; `start: plain` leaves it out).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.llm.fusion import FrequencyAwareFusion
from sidflow.llm.item_tokens import ItemTokens
from sidflow.llm.model import MmeSid, encode

SAMPLE = 4096  # items, evenly spread, that statistics are taken over
SMALLEST = 1e-6
RIDGE = 1e-2  # times the mean square of a modality's rows
ROW_LENGTH = 1.0  # mean length of each modality's rows in the score, at the start


@torch.no_grad()
def settle(model: MmeSid, scale: float) -> None:
    """Set the initial weights of item tokens and of the score's projections from the items themselves.

    Args:
        model: fresh, on its device.
        scale: root mean square of the tokens' entries, in that of the backbone's word embeddings.
    """
    training = model.training
    model.eval()
    core = len(model.fusion.table)
    sample = np.unique(np.linspace(0, core - 1, min(core, SAMPLE)).astype(np.int64))
    items = torch.from_numpy(sample).to(model.fusion.table.device)
    words = model.reader.decoder.get_input_embeddings().weight
    settle_tokens(model.item_tokens, items, scale * float(words.float().square().mean().sqrt()))
    ones = np.ones(len(sample), dtype=np.int64)
    states = encode(model.reader, model.all_tokens(), sample, np.arange(len(sample)), ones)
    settle_scores(model.fusion, items, states)
    model.train(training)


def settle_tokens(tokens: ItemTokens, items: Tensor, target: float) -> None:
    """Give every part mean 0 and root mean square 1 before the MLP, and tokens `target` after it."""
    first, last = tokens.fuse[0], tokens.fuse[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    parts = [*tokens.raw.values(), *tokens.codes.values()]
    blocks = [part(items) for part in parts]
    means = [block.mean(0) for block in blocks]
    for part, mean in zip(parts, means, strict=True):
        part.missing.copy_(mean)  # type: ignore[union-attr]  # what is not there starts as the average
    centred = [block - mean for block, mean in zip(blocks, means, strict=True)]
    spreads = [block.square().mean().sqrt().clamp(min=SMALLEST).expand(block.shape[1]) for block in centred]
    first.weight.div_(torch.cat(spreads))
    first.bias.copy_(-first.weight @ torch.cat(means))
    outputs = functional.relu(first(torch.cat(blocks, 1))) @ last.weight.T
    centre = outputs.mean(0)
    factor = 2 * target / (outputs - centre).square().mean().sqrt().clamp(min=SMALLEST)  # GELU(x) is x / 2 near 0
    last.weight.mul_(factor)
    last.bias.copy_(-factor * centre)


def settle_scores(fusion: FrequencyAwareFusion, items: Tensor, states: Tensor) -> None:
    """Set each W_m by ridge regression from modality rows to the states that the items alone lead to, less the mean.

    Then an item's state scores the items whose rows are like its own.
    """
    wanted = (states - states.mean(0)).double().cpu()
    for column, (name, project) in enumerate(fusion.project.items(), 1):
        there = fusion.usable[items, column].cpu()
        rows = getattr(fusion, f"raw_{name}")[items].double().cpu()[there]
        if not len(rows):
            continue
        ridge = RIDGE * rows.square().sum() / rows.shape[1] + SMALLEST
        inner = rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=rows.dtype)
        weight = torch.linalg.solve(inner, rows.T @ wanted[there])
        length = (rows @ weight).norm(dim=1).mean().clamp(min=SMALLEST)
        assert isinstance(project, nn.Linear)
        project.weight.copy_((ROW_LENGTH / length * weight).T)
        project.bias.zero_()
