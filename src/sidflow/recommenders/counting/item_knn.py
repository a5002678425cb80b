"""Item nearest neighbours: items that the same people have had, order forgotten.

    similarity(j, i) = users(j and i) / (sqrt(users(j) * users(i)) + shrink), the `neighbours` largest of every i kept
    score(i)         = sum over the items j of the history

All knobs are chosen on validation from the params' lists.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting import pairs, ties
from sidflow.counting.events import Events, training
from sidflow.recommenders.counting import search, validation
from sidflow.recommenders.counting.params import ChosenParams
from sidflow.recommenders.counting.search import Choice


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
        """Return the lists under the names that a setting has."""
        return {"neighbours": self.neighbours, "shrink": self.shrinks}


def relation(events: Events, setting: dict[str, float]) -> csr_matrix:
    """Return the similarity of item j to item i, exact weights, float32 CSR [n, n], zero diagonal."""
    had = events.incidence()
    together = csr_matrix(had.T @ had).tocoo()
    users = np.asarray(had.sum(axis=0)).ravel().astype(np.float64)
    apart = together.row != together.col
    row, column = together.row[apart], together.col[apart]
    values = together.data[apart] / (np.sqrt(users[row] * users[column]) + setting["shrink"])
    by_item = csr_matrix((ties.dyadic(values, 2 * ties.BITS), (column, row)), shape=(events.items, events.items))
    return csr_matrix(pairs.strongest(by_item, int(setting["neighbours"])).T)


def evidence(histories: Histories, items: int) -> csr_matrix:
    """Return ones for the items of every history, float32 CSR [q, n]."""
    return csr_matrix(histories.seen(items), dtype=np.float32)


def factors(histories: Histories, events: Events, setting: dict[str, float]) -> Factored:
    """Return the sparse pair of a setting and popularity as the tie break."""
    return Factored(
        states=np.ones((histories.queries, 1), dtype=np.float32),
        matrix=ties.below(events.counts(), ties.STEP)[:, None],
        evidence=evidence(histories, events.items),
        relation=relation(events, setting),
    )


def choose(histories: Histories, items: int, params: ItemKnnParams) -> Choice:
    """Return the setting with the highest NDCG@10 on validation queries, fitted on the training parts."""
    events = training(histories, items)
    queries = search.validation_sample(histories, params.choose_on)
    barred, targets = histories.barred(items, queries), histories.targets[queries]
    had, tie = evidence(histories, items)[queries], ties.below(events.counts(), ties.STEP)

    def score(setting: dict[str, float]) -> float:
        scores = csr_matrix(had @ relation(events, setting))
        return validation.ndcg(validation.sparse_ranks(scores, tie, barred, targets))

    return search.one_at_a_time(params.grid(), score)
