"""What a beam finds of the exact ranking and what that costs, and how often new items are generated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sidflow.generative.decoding import Beams
from sidflow.generative.params import GenerativeParams
from sidflow.generative.ranking import CandidateTree, Decoder, answer_queries
from sidflow.generative.vocabulary import ItemIds
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import query_windows
from sidflow.training.validation import nonzero_coordinates, validation_metrics

WIDTHS = (10, 20, 50, 100)
TOP = 10


class BeamAudit(NamedTuple):
    """What beams find of the exact ranking on some queries, and what both score there."""

    recall: dict[str, float]  # by beam width: share of the ten most probable IDs that it finds
    exact: dict[str, float]  # validation metrics of the exact ranking
    beam: dict[str, float]  # of the recommender's beam


def audit_beams(decoder: Decoder, histories: Histories, queries: np.ndarray, longest: int, width: int) -> BeamAudit:
    """Return what beams find, and what the exact ranking and a beam of `width` score, over `queries`.

    IDs that a history excludes are neither searched nor counted. Recall is empty where no query has an ID left, metrics
    where there are no queries.
    """
    if not len(queries):
        return BeamAudit({}, {}, {})
    candidates, windows = decoder.candidates, query_windows(histories, queries, longest)
    closed = histories.excluded(candidates.count, queries)
    excluded = candidates.excluded_leaves(closed)
    exact = decoder.exact_leaves(windows)
    exact[nonzero_coordinates(excluded, exact.device)] = -torch.inf
    scores, top = exact.topk(min(TOP, exact.shape[1]), dim=1)
    left = scores > -torch.inf  # fewer than ten where fewer IDs are left
    best = Beams(top.masked_fill(~left, -1).int(), scores)
    listed = {each: decoder.beams(windows, each, excluded) for each in sorted({*WIDTHS, width})}
    recall = {}
    for each in WIDTHS if left.any() else ():
        first = listed[each].leaves[:, : top.shape[1]]
        found = (first[:, :, None] == top[:, None, :]).any(1) & left
        recall[str(each)] = float((found.sum(1) / left.sum(1))[left.any(1)].mean())

    def metrics(beams: Beams) -> dict[str, float]:
        ranks, sharing = candidates.ranks(beams, histories.targets[queries], closed)
        return validation_metrics(torch.from_numpy(ranks), sharing)

    return BeamAudit(recall, metrics(best), metrics(listed[width]))


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
    everything = CandidateTree(ids, len(ids.codes), device)
    decoder = Decoder.of(model, ids, everything, params.normalise)
    leaves = answer_queries(decoder, histories, queries, params.max_length, params.beam).leaves[:, :TOP].numpy()
    listed = leaves >= 0
    if not listed.any():
        return {"items": new}
    has_new = np.zeros(everything.tree.leaves, dtype=bool)
    has_new[everything.leaf[count:][ids.present[count:]]] = True
    return {"items": new, "share_of_top_10": float((has_new[leaves] & listed).sum() / listed.sum())}
