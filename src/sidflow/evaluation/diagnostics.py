"""How a recommender's item vectors use their space."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.contracts.factored import served_matrix
from sidflow.contracts.histories import Histories
from sidflow.contracts.tensors import Tensors
from sidflow.measures import spectra, tau

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class Diagnosis(NamedTuple):
    """Numbers for the metrics, and singular values for a picture."""

    metrics: dict[str, float]
    curve: list[dict[str, object]]


def scoring_rows(factors: Tensors) -> Float[np.ndarray, "n d"] | None:
    """Return the item rows of FACTORS that answer test queries, or None where scores are not made by them alone.

    Beside a sparse pair a dense one may be no more than what parts ties: its spectrum would say nothing of the scores.
    """
    alone = "item_matrix" in factors.arrays and "item_indptr" not in factors.arrays
    return served_matrix(factors) if alone else None


def diagnose(
    item_matrix: Float[np.ndarray, "n d"] | None,
    item_table: Float[np.ndarray, "m e"] | None,
    present: Bool[np.ndarray, " m"] | None,
    histories: Histories,
) -> Diagnosis:
    """Return spectra of what scores items and of what the model learned of them, and tau between the two.

    Args:
        item_matrix: what alone makes scores, from `scoring_rows`; None for a recommender without.
        item_table: the learned item embedding, if the recommender keeps one.
        present: its rows that count.
        histories: tau is taken over the test queries' histories.
    """
    metrics: dict[str, float] = {}
    curve: list[dict[str, object]] = []
    tables = {"item_matrix": item_matrix}
    if item_table is not None and present is not None:
        tables["item_table"] = item_table[present]
    for name, table in tables.items():
        if table is None or not len(table):
            continue
        found = spectra.spectrum(table)
        metrics |= {
            f"{name}_effective_rank": found.effective_rank,
            f"{name}_information_abundance": found.information_abundance,
            f"{name}_alive_share": found.alive_share,
            f"{name}_isotropy": found.isotropy,
            f"{name}_mean_cosine": found.mean_cosine,
        }
        curve += [
            {"matrix": name, "dimension": place, "singular_value": float(value)}
            for place, value in enumerate(found.singular_values, start=1)
        ]
    if item_matrix is not None and item_table is not None and present is not None:
        core = len(item_matrix)
        if not np.array_equal(item_matrix, item_table[:core]):  # tied ones keep every order, trivially
            test = np.flatnonzero(~histories.query_valid)
            test = test[:: max(1, len(test) // 2_000)]
            kept = tau.over_histories(
                item_table[:core],
                item_matrix,
                [histories.history(query) for query in test],
                histories.targets[test],
                present[:core],
            )
            metrics["tau_item_table_to_item_matrix"] = kept.value
    return Diagnosis(metrics, curve)
