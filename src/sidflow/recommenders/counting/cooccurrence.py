"""Windowed co-occurrence: what stands near the last items in other people's histories.

    score(i) = sum over the last items s steps back (1 = the last):  s**-recency * sum over training pairs
               (that item, i) d apart, d <= window:  d**-decay, times `backward` where i came first,
               divided by popularity(that item)**damping;   popularity decides between equals.

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
from sidflow.counting.events import Events, recent, training
from sidflow.recommenders.counting import search, validation
from sidflow.recommenders.counting.params import ChosenParams
from sidflow.recommenders.counting.search import Choice

Steps = Annotated[int, Field(ge=1, le=1000)]
Exponent = Annotated[float, Field(ge=0, le=4)]
Share = Annotated[float, Field(ge=0, le=1)]


class CooccurrenceParams(ChosenParams):
    """Windowed co-occurrence: values to try of each knob; the search starts from the first of each list."""

    windows: tuple[Steps, ...] = Field(
        default=(10, 5, 20, 2, 1), min_length=1, description="steps; furthest apart that two items count as a pair"
    )
    decays: tuple[Exponent, ...] = Field(
        default=(0.5, 0.25, 1.0, 2.0), min_length=1, description="exponent of 1 / distance"
    )
    lasts: tuple[Steps, ...] = Field(
        default=(5, 3, 10, 1), min_length=1, description="most recent items of the history that give evidence"
    )
    recencies: tuple[Exponent, ...] = Field(
        default=(1.0, 0.75, 0.5, 1.5, 2.5), min_length=1, description="exponent of 1 / steps back"
    )
    backwards: tuple[Share, ...] = Field(
        default=(0.25, 0.0, 0.5, 1.0),
        min_length=1,
        description="weight of a pair in the other order; 1 = order is ignored",
    )
    dampings: tuple[Share, ...] = Field(
        default=(0.25, 0.0, 0.5), min_length=1, description="exponent of 1 / popularity of the history's item"
    )

    def grid(self) -> dict[str, tuple[float, ...]]:
        """Return the lists under the names that a setting has."""
        return {
            "window": self.windows,
            "decay": self.decays,
            "last": self.lasts,
            "recency": self.recencies,
            "backward": self.backwards,
            "damping": self.dampings,
        }


def relation(events: Events, setting: dict[str, float]) -> csr_matrix:
    """Return the evidence that item i gives for item j, exact weights, float32 CSR [n, n]."""
    weights = ties.decaying(int(setting["window"]), setting["decay"])
    return pairs.relation(events, weights, setting["backward"], setting["damping"])


def evidence(histories: Histories, items: int, setting: dict[str, float]) -> csr_matrix:
    """Return the weights of every query's last items, float32 CSR [q, n]."""
    last = int(setting["last"])
    return recent(histories, items, last, ties.decaying(last, setting["recency"]))


def factors(histories: Histories, events: Events, setting: dict[str, float]) -> Factored:
    """Return the sparse pair of a setting and popularity as the tie break."""
    return Factored(
        states=np.ones((histories.queries, 1), dtype=np.float32),
        matrix=ties.below(events.counts(), ties.STEP)[:, None],
        evidence=evidence(histories, events.items, setting),
        relation=relation(events, setting),
    )


def choose(histories: Histories, items: int, params: CooccurrenceParams) -> Choice:
    """Return the setting with the highest NDCG@10 on validation queries, fitted on the training parts."""
    events = training(histories, items)
    queries = search.validation_sample(histories, params.choose_on)
    barred, targets = histories.barred(items, queries), histories.targets[queries]
    tie = ties.below(events.counts(), ties.STEP)

    related: dict[tuple[float, ...], csr_matrix] = {}  # the latest only: knobs of the query side leave it as it is

    def score(setting: dict[str, float]) -> float:
        key = tuple(setting[knob] for knob in ("window", "decay", "backward", "damping"))
        if key not in related:
            related.clear()
            related[key] = relation(events, setting)
        scores = csr_matrix(evidence(histories, items, setting)[queries] @ related[key])
        return validation.ndcg(validation.sparse_ranks(scores, tie, barred, targets))

    return search.one_at_a_time(params.grid(), score)
