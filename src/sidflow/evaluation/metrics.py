"""One recommender's metrics: test figures under plain names, validation figures with the prefix `valid_`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.evaluations import CUTOFFS
from sidflow.evaluation.queries import METRIC_NAMES, Truth, best_expected_values, parse_metric_name
from sidflow.evaluation.slices import POPULARITY, TRANSITION
from sidflow.measures.exposure import catalogue_coverage, exposure_counts, gini, novelty
from sidflow.measures.gains import metric_at_k

if TYPE_CHECKING:
    from jaxtyping import Int32, Integer


def ranking_metrics(per_query: pl.DataFrame, prefix: str = "") -> dict[str, object]:
    """Return the full-ranking metrics of one part, with its numbers of users and queries."""
    ranks = per_query["rank"].to_numpy()
    metrics: dict[str, object] = {}
    if len(ranks):
        for name in METRIC_NAMES:
            metrics[prefix + name] = float(metric_at_k(ranks, *parse_metric_name(name)).mean())
    metrics[f"{prefix}users_evaluated"] = per_query["user_id"].n_unique()
    metrics[f"{prefix}queries_evaluated"] = per_query.height
    return metrics


def secondary_metrics(test: pl.DataFrame) -> dict[str, object]:
    """Return the mean log2 of ranks, the metrics against sampled negatives, and nDCG@10 without tied targets."""
    metrics: dict[str, object] = {"mean_log2_rank": float(np.log2(test["rank"].to_numpy()).mean())}
    sampled = test["sampled_rank"].to_numpy()
    metrics |= {
        f"sampled_{name}": float(metric_at_k(sampled, *parse_metric_name(name)).mean()) for name in METRIC_NAMES
    }
    untied = test.filter(~pl.col("tied"))
    metrics["untied_queries"] = untied.height
    if untied.height:
        metrics["untied_ndcg_at_10"] = float(metric_at_k(untied["rank"].to_numpy(), "ndcg", 10).mean())
    return metrics


def expected_metrics(per_query: pl.DataFrame, truth: Truth | None) -> dict[str, object]:
    """Return the test part's metrics in expectation under the truth, and their share of the best possible.

    Nothing where the catalogue has no truth.
    """
    test = (per_query["part"] == "test").to_numpy()
    rows = per_query.filter(pl.Series(test) & pl.col("expected_ndcg_at_10").is_not_null())
    if truth is None or rows.is_empty():
        return {}
    metrics: dict[str, object] = {"expected_queries": rows.height}
    for name in ("recall_at_10", "ndcg_at_5", "ndcg_at_10", "ndcg_at_20", "mrr_at_10"):
        metrics[f"expected_{name}"] = float(rows[f"expected_{name}"].to_numpy().astype(np.float64).mean())
    for name in ("recall_at_10", "ndcg_at_10"):
        best = best_expected_values(truth, test, *parse_metric_name(name)).mean()
        value = rows[f"expected_{name}"].to_numpy().astype(np.float64).mean()
        metrics[f"expected_{name}_of_best"] = float(value / best) if best > 0 else None
    return metrics


def exposure_metrics(top: Int32[np.ndarray, "q k"], counts: Integer[np.ndarray, " n"]) -> dict[str, object]:
    """Return coverage, Gini index and novelty of the lists at every cutoff.

    Args:
        top: the recommended items, best first; -1 is no item.
        counts: training events of every item.
    """
    metrics: dict[str, object] = {}
    for k in CUTOFFS:
        exposure = exposure_counts(top[:, :k], len(counts))
        metrics[f"coverage_at_{k}"] = catalogue_coverage(exposure)
        metrics[f"gini_at_{k}"] = gini(exposure)
        metrics[f"novelty_at_{k}"] = novelty(top[:, :k], counts)
    return metrics


def slice_metrics(slices: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return users and nDCG@10 of the popularity and transition slices; the other slices stand in the CSV alone."""
    rows = {str(row["slice"]): row for row in slices if row["slice"] in POPULARITY + TRANSITION}
    metrics: dict[str, object] = {}
    for name, row in rows.items():
        metrics[f"{name}_users"] = row["users"]
        if row["ndcg_at_10"] is not None:
            metrics[f"{name}_ndcg_at_10"] = row["ndcg_at_10"]
    return metrics
