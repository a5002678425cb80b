"""One recommender's metrics: test figures plain, validation figures with the prefix `valid_`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.evaluations import CUTOFFS
from sidflow.evaluation.queries import NAMES, Truth, best_expected, split_name
from sidflow.evaluation.slices import POPULARITY, TRANSITION
from sidflow.measures import exposure, gains

if TYPE_CHECKING:
    from jaxtyping import Int32


def of_ranks(frame: pl.DataFrame, prefix: str = "") -> dict[str, object]:
    """Return full-ranking metrics of one part, with its users and queries."""
    ranks = frame["rank"].to_numpy()
    found: dict[str, object] = {}
    if len(ranks):
        for name in NAMES:
            found[prefix + name] = float(gains.gain(ranks, *split_name(name)).mean())
    found[f"{prefix}users_evaluated"] = frame["user_id"].n_unique()
    found[f"{prefix}queries_evaluated"] = frame.height
    return found


def secondary(test: pl.DataFrame) -> dict[str, object]:
    """Return the mean rank, the sampled protocol, and figures without tied targets."""
    found: dict[str, object] = {"mean_log2_rank": float(np.log2(test["rank"].to_numpy()).mean())}
    sampled = test["sampled_rank"].to_numpy()
    found |= {f"sampled_{name}": float(gains.gain(sampled, *split_name(name)).mean()) for name in NAMES}
    untied = test.filter(~pl.col("tied"))
    found["untied_queries"] = untied.height
    if untied.height:
        found["untied_ndcg_at_10"] = float(gains.gain(untied["rank"].to_numpy(), "ndcg", 10).mean())
    return found


def expected(frame: pl.DataFrame, truth: Truth | None) -> dict[str, object]:
    """Return expected metrics of the test part under the truth, and their share of the best possible; or nothing."""
    asked = (frame["part"] == "test").to_numpy()
    known = frame.filter(pl.Series(asked) & pl.col("expected_ndcg_at_10").is_not_null())
    if truth is None or known.is_empty():
        return {}
    found: dict[str, object] = {"expected_queries": known.height}
    for name in ("recall_at_10", "ndcg_at_5", "ndcg_at_10", "ndcg_at_20", "mrr_at_10"):
        found[f"expected_{name}"] = float(known[f"expected_{name}"].to_numpy().astype(np.float64).mean())
    for name in ("recall_at_10", "ndcg_at_10"):
        best = best_expected(truth, asked, *split_name(name)).mean()
        value = known[f"expected_{name}"].to_numpy().astype(np.float64).mean()
        found[f"expected_{name}_of_best"] = float(value / best) if best > 0 else None
    return found


def lists(top: Int32[np.ndarray, "q k"], counts: np.ndarray) -> dict[str, object]:
    """Return coverage, concentration and novelty of the lists."""
    found: dict[str, object] = {}
    for k in CUTOFFS:
        shown = exposure.shown(top[:, :k], len(counts))
        found[f"coverage_at_{k}"] = exposure.coverage(shown)
        found[f"gini_at_{k}"] = exposure.gini(shown)
        found[f"novelty_at_{k}"] = exposure.novelty(top[:, :k], counts)
    return found


def of_slices(rows: list[dict[str, object]]) -> dict[str, object]:
    """Return what the metrics keep of the slices, each with its users; the rest is in the CSV."""
    kept = {str(row["slice"]): row for row in rows if row["slice"] in POPULARITY + TRANSITION}
    found: dict[str, object] = {}
    for name, row in kept.items():
        found[f"{name}_users"] = row["users"]
        if row["ndcg_at_10"] is not None:
            found[f"{name}_ndcg_at_10"] = row["ndcg_at_10"]
    return found
