"""How much of the exact top 10 a beam finds, and how often new items are generated."""

from __future__ import annotations

import numpy as np
import torch

from sidflow.generative.params import GenerativeParams
from sidflow.generative.ranking import Candidates, Decoder
from sidflow.generative.vocabulary import ItemIds
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import query_windows

WIDTHS = (10, 20, 50, 100)
TOP = 10


def beam_recall(decoder: Decoder, histories: Histories, queries: np.ndarray, longest: int) -> dict[str, float]:
    """Return, by beam width, the share of the ten most probable IDs that the beam finds, over `queries`.

    Empty where there are no queries. Histories exclude nothing here: the question is what the search misses.
    """
    if not len(queries):
        return {}
    windows = query_windows(histories, queries, longest)
    exact = decoder.exact_leaves(windows)
    top = exact.topk(min(TOP, exact.shape[1]), dim=1).indices
    recall = {}
    for width in WIDTHS:
        listed = decoder.beams(windows, width).leaves[:, : top.shape[1]]
        found = (listed[:, :, None] == top[:, None, :]).any(1)
        recall[str(width)] = float(found.float().mean())
    return recall


def new_item_share(
    model: torch.nn.Module,
    ids: ItemIds,
    count: int,
    histories: Histories,
    queries: np.ndarray,
    params: GenerativeParams,
) -> dict[str, float | int]:
    """Return how often items outside the core are generated, when the tree holds every item with an ID.

    They are in no training history, so that nothing but their ID brings them up.

    Args:
        model: the trained model.
        ids: of all items of the catalogue.
        count: core items, the first ones.
        histories: the users' sequences.
        queries: whose lists are looked at.
        params: of the recommender.

    Returns:
        `items`, those outside the core that have an ID, and `share_of_top_10`, their share of the lists.
    """
    new = int(ids.present[count:].sum())
    if not new or not len(queries):
        return {"items": new}
    device = next(model.parameters()).device
    everything = Candidates(ids, len(ids.codes), device)
    beams = Decoder.of(model, ids, everything, params.normalise).beams(
        query_windows(histories, queries, params.max_length), params.beam
    )
    leaves = beams.leaves[:, :TOP].numpy()
    items = everything.tree.leaf_items.cpu().numpy()[everything.tree.leaf_starts.cpu().numpy()[np.maximum(leaves, 0)]]
    return {"items": new, "share_of_top_10": float(((items >= count) & (leaves >= 0)).sum() / (leaves >= 0).sum())}
