"""One recommender, from its ranking to metrics, slices and diagnostics of its item vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.recommenders import BLEND_KEY, served_matrix
from sidflow.core.tensors import Tensors
from sidflow.evaluation.metrics import (
    expected_metrics,
    exposure_metrics,
    match_truth,
    per_query_table,
    ranking_metrics,
    secondary_metrics,
    slice_metrics,
)
from sidflow.evaluation.params import EvaluateParams
from sidflow.evaluation.slices import ContentPresence, slice_masks, slice_rows
from sidflow.metrics.geometry import compute_spectrum, tau_over_histories
from sidflow.sequences.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Diagnostics(NamedTuple):
    """Metrics of the item vectors, and their singular values as rows of the artifact SPECTRUM."""

    metrics: dict[str, float]
    spectrum: list[dict[str, object]]


def scoring_item_matrix(factors: Tensors) -> Float[np.ndarray, "n d"] | None:
    """Return the item matrix of FACTORS that scores test queries, or None where it does not score alone.

    Beside sparse factors, dense ones may only break ties: their spectrum says nothing of the scores. A blend joins the
    rows of two recommenders, while their weights are in the query states.
    """
    is_dense_only = "item_matrix" in factors.arrays and "item_indptr" not in factors.arrays
    return served_matrix(factors) if is_dense_only and BLEND_KEY not in factors.metadata else None


def diagnose_item_vectors(
    item_matrix: Float[np.ndarray, "n d"] | None,
    item_table: Float[np.ndarray, "m e"] | None,
    present: Bool[np.ndarray, " m"] | None,
    histories: Histories,
) -> Diagnostics:
    """Return spectra of the scoring item matrix and of the learned item embedding, and Kendall's tau between the two.

    Args:
        item_matrix: from `scoring_item_matrix`; None for a recommender without.
        item_table: the learned item embedding, if the recommender keeps one.
        present: which rows of `item_table` hold an embedding.
        histories: tau is taken over the test queries' histories.
    """
    metrics: dict[str, float] = {}
    spectrum: list[dict[str, object]] = []
    tables = {"item_matrix": item_matrix}
    if item_table is not None and present is not None:
        tables["item_table"] = item_table[present]
    for name, table in tables.items():
        if table is None or not len(table):
            continue
        table_spectrum = compute_spectrum(table)
        metrics |= {
            f"{name}_effective_rank": table_spectrum.effective_rank,
            f"{name}_information_abundance": table_spectrum.information_abundance,
            f"{name}_alive_share": table_spectrum.alive_share,
            f"{name}_isotropy": table_spectrum.isotropy,
            f"{name}_mean_cosine": table_spectrum.mean_cosine,
        }
        spectrum += [
            {"matrix": name, "dimension": dimension, "singular_value": float(value)}
            for dimension, value in enumerate(table_spectrum.singular_values, start=1)
        ]
    if item_matrix is not None and item_table is not None and present is not None:
        core = len(item_matrix)
        if not np.array_equal(item_matrix, item_table[:core]):  # tied tables keep every order, trivially
            test = np.flatnonzero(~histories.query_valid)
            test = test[:: max(1, len(test) // 2_000)]
            agreement = tau_over_histories(
                item_table[:core],
                item_matrix,
                [histories.history(query) for query in test],
                histories.targets[test],
                present[:core],
            )
            metrics["tau_item_table_to_item_matrix"] = agreement.value
    return Diagnostics(metrics, spectrum)


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
