"""MME-SID's initial weights: item tokens that differ between items, and scores that start as content similarity.

With default initial weights, unit-length modality rows are small against the biases of the layers above them, and
the tokens' scale differs from that of the language model's word embeddings. All items then have nearly equal states.
The functions here set initial weights only and change no equation.

Source: ours, a deviation from the paper; `start: plain` leaves it out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.mme_sid.fusion import FrequencyAwareFusion
from sidflow.mme_sid.item_tokens import CodeVectors, ItemTokens, RawVectors
from sidflow.mme_sid.model import MmeSid, encode
from sidflow.sequences.windows import recent_windows

SAMPLE = 4096  # items, evenly spread, over which statistics are taken
SMALLEST = 1e-6  # lower bound of a divisor
LEAST_SPREAD = 1e-3  # of rows, in their root mean square; rows closer to one another are not spread out
RIDGE = 1e-2  # times the mean square of a modality's rows
ROW_LENGTH = 1.0  # mean initial length of each modality's projected rows


@torch.no_grad()
def initialise_from_items(model: MmeSid, scale: float) -> None:
    """Set the initial weights of item tokens and score projections from the items themselves, in place.

    Args:
        model: fresh, on its device.
        scale: root mean square of the tokens' entries, relative to the backbone's word embeddings.
    """
    training = model.training
    model.eval()
    core = len(model.fusion.table)
    sample = np.unique(np.linspace(0, core - 1, min(core, SAMPLE)).astype(np.int64))
    items = torch.from_numpy(sample).to(model.fusion.table.device)
    initialise_item_tokens(model.item_tokens, items, core, scale * model.backbone.word_size())
    one_item_windows = recent_windows([[item] for item in sample.tolist()], 1)
    states = encode(model.backbone, model.all_tokens(), one_item_windows)
    initialise_score_projections(model.fusion, items, states)
    model.train(training)


def initialise_item_tokens(tokens: ItemTokens, items: Tensor, core: int, target: float) -> None:
    """Set the MLP so that its inputs have mean 0 and root mean square 1, and its tokens root mean square `target`.

    Args:
        tokens: fresh.
        items: int [k], core items whose tokens are measured.
        core: number of core items.
        target: root mean square of the tokens' entries.
    """
    first, last = tokens.fuse[0], tokens.fuse[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    parts = [*tokens.raw.values(), *tokens.codes.values()]
    means, spreads = [], []
    for part in parts:
        assert isinstance(part, RawVectors | CodeVectors)
        rows = part(_sample_with(part.present, core))
        mean = rows.mean(0)
        spread = (rows - mean).square().mean().sqrt()
        size = rows.square().mean().sqrt()
        part.missing.copy_(mean)  # an absent part starts as the mean of the present ones
        means.append(mean)
        spreads.append((spread if spread > LEAST_SPREAD * size else size).clamp(min=SMALLEST).expand(rows.shape[1]))
    first.weight.div_(torch.cat(spreads))
    first.bias.copy_(-first.weight @ torch.cat(means))
    outputs = functional.relu(first(torch.cat([part(items) for part in parts], 1))) @ last.weight.T
    centre = outputs.mean(0)
    spread = float((outputs - centre).square().mean().sqrt())
    factor = 2 * target / (spread if spread > LEAST_SPREAD else 1.0)  # GELU(x) is x / 2 near 0
    last.weight.mul_(factor)
    last.bias.copy_(-factor * centre)


def _sample_with(present: Tensor, core: int) -> Tensor:
    """Return evenly spread items that are `present`, bool [n]: of the core, or where none is there of the others."""
    items = torch.nonzero(present[:core])[:, 0]
    items = items if len(items) else torch.nonzero(present)[:, 0]
    index = np.unique(np.linspace(0, len(items) - 1, min(len(items), SAMPLE)).astype(np.int64))
    return items[torch.from_numpy(index).to(items.device)]


def initialise_score_projections(fusion: FrequencyAwareFusion, items: Tensor, states: Tensor) -> None:
    """Set each W_m by ridge regression from modality rows to centred states, so that similar items score high.

    Args:
        fusion: holds the projections W_m.
        items: int [k], core items to regress on.
        states: float [k, h], the state after a history of that item alone.
    """
    targets = (states - states.mean(0)).double().cpu()
    for column, (name, project) in enumerate(fusion.project.items(), 1):
        present = fusion.usable[items, column].cpu()
        rows = getattr(fusion, f"raw_{name}")[items].double().cpu()[present]
        if not len(rows):
            continue
        ridge = RIDGE * rows.square().sum() / rows.shape[1] + SMALLEST
        inner = rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=rows.dtype)
        weight = torch.linalg.solve(inner, rows.T @ targets[present])
        length = (rows @ weight).norm(dim=1).mean().clamp(min=SMALLEST)
        assert isinstance(project, nn.Linear)
        project.weight.copy_((ROW_LENGTH / length * weight).T)
        project.bias.zero_()
