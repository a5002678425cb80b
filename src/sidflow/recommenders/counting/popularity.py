"""Popularity: every user gets the most frequent items."""

from __future__ import annotations

import numpy as np

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting.events import Events
from sidflow.recommenders.counting.params import CountingParams


class PopularityParams(CountingParams):
    """Popularity: every user gets the most frequent items. No knobs of its own."""


def popularity_factors(histories: Histories, events: Events) -> Factored:
    """Return states of ones [q, 1] and the items' counts [n, 1]."""
    states = np.ones((histories.query_count, 1), dtype=np.float32)
    return Factored(states=states, matrix=events.counts()[:, None].astype(np.float32))
