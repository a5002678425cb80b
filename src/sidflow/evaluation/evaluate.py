"""One recommender, from its ranking to its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.evaluation import metrics, queries, slices
from sidflow.evaluation.diagnostics import diagnose
from sidflow.evaluation.params import EvaluateParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Inputs(NamedTuple):
    """What one recommender left behind, and what it was asked."""

    histories: Histories
    tied: np.ndarray  # bool [q]
    ranks: pl.DataFrame  # TARGET_RANKS
    top: pl.DataFrame  # TOP
    truth: pl.DataFrame  # TRUTH
    content: slices.Content  # of every core item
    item_matrix: Float[np.ndarray, "n d"] | None
    item_table: Float[np.ndarray, "m e"] | None
    present: Bool[np.ndarray, " m"] | None
    summary: dict[str, object]


class Evaluation(NamedTuple):
    """What `evaluate` writes."""

    per_query: pl.DataFrame
    metrics: dict[str, object]
    slices: list[dict[str, object]]
    spectrum: list[dict[str, object]]


def evaluate(given: Inputs, settings: EvaluateParams) -> Evaluation:
    """Measure one recommender.

    Raises:
        InputError: its ranking is of another split.
    """
    histories = given.histories
    counts = histories.training_counts(len(given.content.text))
    truth = queries.match(given.truth, histories)
    top = given.top["items"].to_numpy()
    frame = queries.per_query(histories, given.ranks, top, given.tied, counts, truth)
    test = ~histories.query_valid
    sliced = slices.rows(frame, slices.masks(histories, counts, given.content, settings), test)
    diagnosis = diagnose(given.item_matrix, given.item_table, given.present, histories)
    found = metrics.of_ranks(frame.filter(pl.Series(test)))
    found |= metrics.of_ranks(frame.filter(pl.Series(~test)), "valid_")
    if test.any():
        found |= metrics.secondary(frame.filter(pl.Series(test)))
        found["targets_in_history"] = int((test & histories.targets_seen(len(counts))).sum())
        found |= metrics.expected(frame, truth)
        found |= metrics.lists(top[test], counts)
        found |= metrics.of_slices(sliced)
    found |= diagnosis.metrics
    found |= {name: value for name, value in given.summary.items() if name == "device" or name.startswith("tau_")}
    return Evaluation(frame, found, sliced, diagnosis.curve)
