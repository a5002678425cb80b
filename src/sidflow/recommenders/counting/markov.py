"""First-order Markov chain: the items that most often follow the last item; popularity breaks ties."""

from __future__ import annotations

import numpy as np

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting.events import Events, recent_items
from sidflow.counting.pairs import follower_counts
from sidflow.counting.ties import tie_breaks
from sidflow.recommenders.counting.params import CountingParams


class MarkovParams(CountingParams):
    """Markov chain of first order: what followed the last item. No knobs of its own."""


def markov_factors(histories: Histories, events: Events) -> Factored:
    """Return the last item's one-hot row and the transition counts, with popularity as the tie break.

    Counts rank a query's items as probabilities would, and are exact in float32, as is the tie break.
    """
    return Factored(
        states=np.ones((histories.query_count, 1), dtype=np.float32),
        matrix=tie_breaks(events.counts(), step=1.0)[:, None],
        evidence=recent_items(histories, events.items, last=1, weights=np.ones(1)),
        relation=follower_counts(events, distance=1),
    )
