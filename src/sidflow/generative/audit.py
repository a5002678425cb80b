"""How much of the exact top 10 a beam finds, and how often new items are generated."""

from __future__ import annotations

import numpy as np
import torch

from sidflow.generative.params import GenerativeParams
from sidflow.generative.ranking import Candidates, Decoder, answer_queries
from sidflow.generative.vocabulary import ItemIds
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import query_windows
from sidflow.training.validation import nonzero_coordinates

WIDTHS = (10, 20, 50, 100)
TOP = 10


def beam_recall(decoder: Decoder, histories: Histories, queries: np.ndarray, longest: int) -> dict[str, float]:
    """Return, by beam width, the share of the ten most probable IDs that the beam finds, over `queries`.

    IDs that a history excludes are neither searched nor counted. Empty where there are no queries.
    """
    windows = query_windows(histories, queries, longest)
    excluded = decoder.candidates.excluded_leaves(histories.excluded(decoder.candidates.count, queries))
    exact = decoder.exact_leaves(windows)
    exact[nonzero_coordinates(excluded, exact.device)] = -torch.inf
    scores, top = exact.topk(min(TOP, exact.shape[1]), dim=1)
    left = scores > -torch.inf  # fewer than ten where fewer IDs are left
    if not left.any():
        return {}
    recall = {}
    for width in WIDTHS:
        listed = decoder.beams(windows, width, excluded).leaves[:, : top.shape[1]]
        found = (listed[:, :, None] == top[:, None, :]).any(1) & left
        recall[str(width)] = float((found.sum(1) / left.sum(1))[left.any(1)].mean())
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
        `items`, those outside the core that have an ID, and `share_of_top_10`, the share of listed IDs that are of at
        least one of them.
    """
    new = int(ids.present[count:].sum())
    if not new or not len(queries):
        return {"items": new}
    device = next(model.parameters()).device
    everything = Candidates(ids, len(ids.codes), device)
    decoder = Decoder.of(model, ids, everything, params.normalise)
    leaves = answer_queries(decoder, histories, queries, params.max_length, params.beam).leaves[:, :TOP].numpy()
    listed = leaves >= 0
    if not listed.any():
        return {"items": new}
    has_new = np.zeros(everything.tree.leaves, dtype=bool)
    has_new[everything.leaf[count:][ids.present[count:]]] = True
    return {"items": new, "share_of_top_10": float((has_new[leaves] & listed).sum() / listed.sum())}
