"""Item nearest neighbours: items that the same users have in their histories, whatever the order.

    similarity(j, i) = users(j and i) / (sqrt(users(j) * users(i)) + shrink), the `neighbours` largest of every i kept
    score(i)         = sum over the items j of the history

All knobs are chosen on validation from lists in params.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.counting.search import Choice, ChosenParams, coordinate_search, mean_ndcg, sparse_ranks, validation_set
from sidflow.sequences.cooccurrence import (
    SCORE_STEP,
    WEIGHT_BITS,
    Events,
    round_to_dyadic,
    strongest_per_row,
    tie_breaks,
    tie_broken_factors,
    training_events,
)
from sidflow.sequences.histories import Histories


class ItemKnnParams(ChosenParams):
    """Item-kNN: cosines of users in common; the search starts from the first of each list."""

    neighbours: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(100, 20, 50, 200, 400), min_length=1, description="items kept per item, the nearest"
    )
    shrinks: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(5.0, 0.0, 2.0, 10.0, 20.0, 40.0),
        min_length=1,
        description="users added to a cosine's denominator, against chance",
    )

    def grid(self) -> dict[str, tuple[float, ...]]:
        """Return the candidate values by the knob's name in a setting."""
        return {"neighbours": self.neighbours, "shrink": self.shrinks}


def item_similarity(events: Events, setting: dict[str, float]) -> csr_matrix:
    """Return the similarity of item j to item i, exact in float32, CSR [n, n], zero diagonal."""
    interactions = events.incidence()
    common = csr_matrix(interactions.T @ interactions).tocoo()
    users = np.asarray(interactions.sum(axis=0)).ravel().astype(np.float64)
    off_diagonal = common.row != common.col
    row, column = common.row[off_diagonal], common.col[off_diagonal]
    values = common.data[off_diagonal] / (np.sqrt(users[row] * users[column]) + setting["shrink"])
    by_item = csr_matrix((round_to_dyadic(values, 2 * WEIGHT_BITS), (column, row)), shape=(events.items, events.items))
    return csr_matrix(strongest_per_row(by_item, int(setting["neighbours"])).T)


def item_knn_factors(histories: Histories, events: Events, setting: dict[str, float]) -> ScoreFactors:
    """Return the factors of a setting: histories times similarities, with popularity as the tie break."""
    seen = csr_matrix(histories.seen(events.items), dtype=np.float32)
    return tie_broken_factors(seen, item_similarity(events, setting), events, SCORE_STEP)


def choose_item_knn(histories: Histories, items: int, params: ItemKnnParams) -> Choice:
    """Return the setting with the highest validation nDCG@10 of a fit on the training parts."""
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    seen, tie = csr_matrix(histories.seen(items, queries), dtype=np.float32), tie_breaks(events.counts(), SCORE_STEP)

    def score(setting: dict[str, float]) -> float:
        scores = csr_matrix(seen @ item_similarity(events, setting))
        return mean_ndcg(sparse_ranks(scores, tie, masked, targets))

    return coordinate_search(params.grid(), score)
