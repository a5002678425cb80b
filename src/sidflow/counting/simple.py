"""Popularity, first-order Markov chain, and the oracle of the synthetic catalogue."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.artifacts.catalog import TRUTH
from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.counting.search import CountingParams
from sidflow.sequences.cooccurrence import Events, follower_counts, tie_broken_factors
from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import recent_items


class PopularityParams(CountingParams):
    """Popularity: every user gets the most frequent items. No knobs of its own."""


def popularity_factors(histories: Histories, events: Events) -> ScoreFactors:
    """Return states of ones [q, 1] and the items' counts [n, 1]."""
    states = np.ones((histories.query_count, 1), dtype=np.float32)
    return ScoreFactors(states=states, matrix=events.counts()[:, None].astype(np.float32))


class MarkovParams(CountingParams):
    """Markov chain of first order: what followed the last item. No knobs of its own."""


def markov_factors(histories: Histories, events: Events) -> ScoreFactors:
    """Return the last item's one-hot row and the transition counts, with popularity as the tie break.

    Counts rank a query's items as probabilities would, and are exact in float32, as is the tie break.
    """
    last_items = recent_items(histories.query_slices(), np.ones(1), events.items)
    return tie_broken_factors(last_items, follower_counts(events, distance=1), events, step=1.0)


class OracleParams(Params):
    """The synthetic generator's own probabilities; nothing is fitted."""

    features: Literal["artifacts/catalog/truth.parquet"] = Field(
        default="artifacts/catalog/truth.parquet", description="the true probabilities"
    )


def oracle_factors(histories: Histories, truth: pl.DataFrame, items: int) -> ScoreFactors:
    """Return every query's true probabilities [q, n] and the identity [n, n].

    Real data has an empty truth: states are then zero [q, 1], so that all items tie.

    Raises:
        InputError: the truth lacks some queries, or has another number of items.
    """
    if not truth.height:
        return ScoreFactors(np.zeros((histories.query_count, 1), np.float32), np.zeros((items, 1), np.float32))
    queries = pl.DataFrame({"user_id": histories.query_user, "position": histories.target_position}).cast(pl.Int32)
    joined = queries.join(truth, on=["user_id", "position"], how="left", maintain_order="left")
    missing = joined.filter(pl.col("probabilities").is_null())
    width = truth.schema["probabilities"].shape[0]  # type: ignore[attr-defined]
    if missing.height or width != items:
        raise InputError(
            TRUTH.path,
            expected=f"probabilities of {items} items for every query",
            found=f"{width} items, {missing.height} queries without",
            example=missing.select("user_id", "position").row(0) if missing.height else None,
            remedy="rerun `dvc repro ingest split`",
        )
    states = np.ascontiguousarray(joined["probabilities"].to_numpy(), dtype=np.float32)
    return ScoreFactors(states, np.eye(items, dtype=np.float32))
