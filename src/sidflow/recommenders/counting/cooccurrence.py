"""Windowed co-occurrence: the items near the last items in other users' histories.

    score(i) = sum over the last items s steps back (1 = the last):  s**-recency * sum over training pairs
               (that item, i) d apart, d <= window:  d**-decay, times `backward` where i came first,
               divided by popularity(that item)**damping;   popularity breaks ties.

All knobs are chosen on validation from lists in params.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting.events import Events, recent_items, training_events
from sidflow.counting.pairs import damped_cooccurrence
from sidflow.counting.ties import SCORE_STEP, decaying_weights, tie_breaks
from sidflow.recommenders.counting.params import ChosenParams
from sidflow.recommenders.counting.search import Choice, coordinate_search
from sidflow.recommenders.counting.validation import mean_ndcg, sparse_ranks, validation_set

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
        """Return the candidate values by the knob's name in a setting."""
        return {
            "window": self.windows,
            "decay": self.decays,
            "last": self.lasts,
            "recency": self.recencies,
            "backward": self.backwards,
            "damping": self.dampings,
        }


def cooccurrence_relation(events: Events, setting: dict[str, float]) -> csr_matrix:
    """Return the weighted co-occurrence of item i with a later item j, exact in float32, CSR [n, n]."""
    weights = decaying_weights(int(setting["window"]), setting["decay"])
    return damped_cooccurrence(events, weights, setting["backward"], setting["damping"])


def recency_weights(histories: Histories, items: int, setting: dict[str, float]) -> csr_matrix:
    """Return the recency weights of every query's last items, float32 CSR [q, n]."""
    last = int(setting["last"])
    return recent_items(histories, items, last, decaying_weights(last, setting["recency"]))


def cooccurrence_factors(histories: Histories, events: Events, setting: dict[str, float]) -> Factored:
    """Return the factors of a setting: recency weights times co-occurrence, with popularity as the tie break."""
    return Factored(
        states=np.ones((histories.query_count, 1), dtype=np.float32),
        matrix=tie_breaks(events.counts(), SCORE_STEP)[:, None],
        evidence=recency_weights(histories, events.items, setting),
        relation=cooccurrence_relation(events, setting),
    )


def choose_cooccurrence(histories: Histories, items: int, params: CooccurrenceParams) -> Choice:
    """Return the setting with the highest validation NDCG@10 of a fit on the training parts."""
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    tie = tie_breaks(events.counts(), SCORE_STEP)

    latest: dict[tuple[float, ...], csr_matrix] = {}  # only one is kept: the knobs of recency do not change it

    def score(setting: dict[str, float]) -> float:
        key = tuple(setting[knob] for knob in ("window", "decay", "backward", "damping"))
        if key not in latest:
            latest.clear()
            latest[key] = cooccurrence_relation(events, setting)
        scores = csr_matrix(recency_weights(histories, items, setting)[queries] @ latest[key])
        return mean_ndcg(sparse_ranks(scores, tie, masked, targets))

    return coordinate_search(params.grid(), score)
