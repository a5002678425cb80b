"""The evaluation of one recommender: from its ranking to metrics, slices and diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.evaluation.diagnostics import diagnose_item_vectors
from sidflow.evaluation.metrics import (
    expected_metrics,
    exposure_metrics,
    ranking_metrics,
    secondary_metrics,
    slice_metrics,
)
from sidflow.evaluation.params import EvaluateParams
from sidflow.evaluation.queries import match_truth, per_query_table
from sidflow.evaluation.slices import ContentPresence, slice_masks, slice_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class EvaluationInputs(NamedTuple):
    """A recommender's outputs, and the queries that they answer."""

    histories: Histories
    tied: Bool[np.ndarray, " q"]
    ranks: pl.DataFrame  # TARGET_RANKS
    top: pl.DataFrame  # TOP
    truth: pl.DataFrame  # TRUTH
    content: ContentPresence  # of every core item
    item_matrix: Float[np.ndarray, "n d"] | None
    item_table: Float[np.ndarray, "m e"] | None
    present: Bool[np.ndarray, " m"] | None
    summary: dict[str, object]  # of its training


class Evaluation(NamedTuple):
    """The outputs of the stage `evaluate`."""

    per_query: pl.DataFrame
    metrics: dict[str, object]
    slices: list[dict[str, object]]
    spectrum: list[dict[str, object]]


def evaluate(inputs: EvaluationInputs, settings: EvaluateParams) -> Evaluation:
    """Return the metrics, slices and diagnostics of one recommender.

    Raises:
        InputError: its ranking is of another split.
    """
    histories = inputs.histories
    counts = histories.training_counts(len(inputs.content.text))
    truth = match_truth(inputs.truth, histories)
    top = inputs.top["items"].to_numpy()
    per_query = per_query_table(histories, inputs.ranks, top, inputs.tied, counts, truth)
    test = ~histories.query_valid
    slices = slice_rows(per_query, slice_masks(histories, counts, inputs.content, settings), test)
    diagnostics = diagnose_item_vectors(inputs.item_matrix, inputs.item_table, inputs.present, histories)
    metrics = ranking_metrics(per_query.filter(pl.Series(test)))
    metrics |= ranking_metrics(per_query.filter(pl.Series(~test)), "valid_")
    if test.any():
        metrics |= secondary_metrics(per_query.filter(pl.Series(test)))
        metrics["targets_in_history"] = int((test & histories.targets_seen(len(counts))).sum())
        metrics |= expected_metrics(per_query, truth)
        metrics |= exposure_metrics(top[test], counts)
        metrics |= slice_metrics(slices)
    metrics |= diagnostics.metrics
    metrics |= {name: value for name, value in inputs.summary.items() if name == "device" or name.startswith("tau_")}
    return Evaluation(per_query, metrics, slices, diagnostics.spectrum)
