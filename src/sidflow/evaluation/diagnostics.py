"""Diagnostics of a recommender's item vectors: spectra, and how well neighbourhood orders are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.contracts.factored import served_matrix
from sidflow.contracts.histories import Histories
from sidflow.contracts.tensors import Tensors
from sidflow.measures.spectra import compute_spectrum
from sidflow.measures.tau import tau_over_histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Diagnostics(NamedTuple):
    """Metrics of the item vectors, and their singular values as rows of the artifact SPECTRUM."""

    metrics: dict[str, float]
    spectrum: list[dict[str, object]]


def scoring_item_matrix(factors: Tensors) -> Float[np.ndarray, "n d"] | None:
    """Return the item matrix of FACTORS that scores test queries, or None where it does not score alone.

    Beside sparse factors, dense ones may only break ties: their spectrum says nothing of the scores.
    """
    alone = "item_matrix" in factors.arrays and "item_indptr" not in factors.arrays
    return served_matrix(factors) if alone else None


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
        shape = compute_spectrum(table)
        metrics |= {
            f"{name}_effective_rank": shape.effective_rank,
            f"{name}_information_abundance": shape.information_abundance,
            f"{name}_alive_share": shape.alive_share,
            f"{name}_isotropy": shape.isotropy,
            f"{name}_mean_cosine": shape.mean_cosine,
        }
        spectrum += [
            {"matrix": name, "dimension": dimension, "singular_value": float(value)}
            for dimension, value in enumerate(shape.singular_values, start=1)
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
