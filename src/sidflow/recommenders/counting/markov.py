"""Markov chain of first order: what followed the last item most often; popularity decides between equals."""

from __future__ import annotations

import numpy as np

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting import pairs, ties
from sidflow.counting.events import Events, recent
from sidflow.recommenders.counting.params import CountingParams


class MarkovParams(CountingParams):
    """Markov chain of first order: what followed the last item. No knobs of its own."""


def factors(histories: Histories, events: Events) -> Factored:
    """Return the last item's one-hot times the transition counts, plus popularity below one count.

    Counts order a query's items as probabilities would, and are exact in float32; so is the tie break (see `ties`).
    """
    return Factored(
        states=np.ones((histories.queries, 1), dtype=np.float32),
        matrix=ties.below(events.counts(), step=1.0)[:, None],
        evidence=recent(histories, events.items, last=1, weights=np.ones(1)),
        relation=pairs.followers(events, distance=1),
    )
