"""One recommender's results query by query, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.evaluation import CUTOFFS, EXPECTED, HELD_OUT_RANK, LISTED, SHARED_IDS
from sidflow.artifacts.split import TEST, VALID
from sidflow.core.errors import InputError
from sidflow.evaluation.slices import POPULARITY, TRANSITION
from sidflow.metrics.ranking import (
    METRICS,
    Metric,
    best_expected_metric_at_k,
    catalogue_coverage,
    expected_metric_at_k,
    exposure_counts,
    gini,
    log2_rank,
    metric_at_k,
    novelty,
)
from sidflow.sequences.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int32, Int64, Integer


METRIC_NAMES = tuple(f"{metric}_at_{k}" for metric in METRICS for k in CUTOFFS)
MEAN_LOG2_RANK = "mean_log2_rank"
SAMPLED_NAMES = tuple(f"sampled_{name}" for name in METRIC_NAMES)
OF_ALL_RANKS = (MEAN_LOG2_RANK, *SAMPLED_NAMES)  # need the rank of a target wherever it is
UNRANKED = "ranked by beam: items that a beam does not list have no score"
BY_ID = ("recall_at_10", "ndcg_at_10")  # also as if a hit of an ID was a hit of each of its items
HELD_OUT = ("recall_at_10", "ndcg_at_10")  # of held-out targets among held-out items
_BLOCK_ROWS = 1_024


class Truth(NamedTuple):
    """The generator's next-item probabilities, and the query that each row belongs to."""

    query: Int64[np.ndarray, " rows"]  # -1 where no query asks for it
    probabilities: Float32[np.ndarray, "rows n"]


def parse_metric_name(name: str) -> tuple[Metric, int]:
    """Return the metric and the cutoff of a name such as `ndcg_at_10`."""
    metric, k = name.split("_at_")
    assert metric in METRICS
    return metric, int(k)


def rank_metric(per_query: pl.DataFrame, name: str) -> Float[np.ndarray, " q"]:
    """Return the metric `name`, such as `ndcg_at_10` or `sampled_ndcg_at_10`, of every query of a table with ranks.

    Where items share IDs, it is the mean over the ranks of the target's tie.
    """
    sampled = "sampled_" if name.startswith("sampled_") else ""
    sharing = per_query[f"{sampled}sharing"].to_numpy() if f"{sampled}sharing" in per_query.columns else None
    return values_from_ranks(per_query[f"{sampled}rank"].to_numpy(), name.removeprefix(sampled), sharing)


def values_from_ranks(
    ranks: Integer[np.ndarray, " q"], name: str, sharing: Integer[np.ndarray, " q"] | None = None
) -> Float[np.ndarray, " q"]:
    """Return the value of `ndcg_at_10` and the like, or of `mean_log2_rank`, for every query; see `metric_at_k`."""
    if name == MEAN_LOG2_RANK:
        return log2_rank(ranks, sharing)
    return metric_at_k(ranks, *parse_metric_name(name), sharing)


def match_truth(truth: pl.DataFrame, histories: Histories) -> Truth | None:
    """Return the table TRUTH with the query of every row, or None where the catalogue has no truth."""
    if truth.is_empty():
        return None
    queries = pl.DataFrame(
        {
            "user_id": histories.query_user.astype(np.int32),
            "position": histories.target_position.astype(np.int32),
            "query_id": np.arange(histories.query_count),
        }
    )
    joined = truth.select("user_id", "position").join(
        queries, on=["user_id", "position"], how="left", maintain_order="left"
    )
    return Truth(joined["query_id"].fill_null(-1).to_numpy(), truth["probabilities"].to_numpy())


def expected_columns(top: Int32[np.ndarray, "q k"], truth: Truth | None) -> dict[str, pl.Series]:
    """Return the expected metrics of every query by column name, null for a query without a truth."""
    columns = {name: np.full(len(top), np.nan) for name in EXPECTED}
    if truth is not None:
        rows = np.flatnonzero(truth.query >= 0)
        query = truth.query[rows]
        for name in EXPECTED:
            metric, k = parse_metric_name(name.removeprefix("expected_"))
            columns[name][query] = expected_metric_at_k(top[query], truth.probabilities[rows], metric, k)
    return {name: pl.Series(name, values, dtype=pl.Float32).fill_nan(None) for name, values in columns.items()}


def best_expected_values(
    truth: Truth, selected: Bool[np.ndarray, " q"], metric: Metric, k: int
) -> Float[np.ndarray, " rows"]:
    """Return the expected metric of the best possible list, for each of the `selected` queries that has a truth."""
    rows = np.flatnonzero((truth.query >= 0) & selected[np.maximum(truth.query, 0)])
    blocks = [
        best_expected_metric_at_k(truth.probabilities[rows[start : start + _BLOCK_ROWS]], metric, k)
        for start in range(0, len(rows), _BLOCK_ROWS)
    ]
    return np.concatenate([np.zeros(0), *blocks])


def per_query_table(
    histories: Histories,
    ranks: pl.DataFrame,
    top: Int32[np.ndarray, "q k"],
    tied: Bool[np.ndarray, " q"],
    counts: Integer[np.ndarray, " n"],
    truth: Truth | None,
) -> pl.DataFrame:
    """Return the table PER_QUERY.

    Args:
        histories: the queries with their histories and targets.
        ranks: the table TARGET_RANKS.
        top: the recommended items of every query, best first; -1 is no item.
        tied: whether the target shares its timestamp with another event of the user.
        counts: training events of every item.
        truth: next-item probabilities, if the catalogue has them.

    Raises:
        InputError: the ranking is of another split.
    """
    if ranks.height != histories.query_count or len(top) != histories.query_count:
        raise InputError(
            "artifacts/rankings",
            expected=f"{histories.query_count} queries, as split made",
            found=f"{ranks.height} ranks and {len(top)} lists",
            remedy="run `dvc repro`: the ranking is older than the split",
        )
    part = np.where(histories.query_valid, VALID, TEST)
    return ranks.select(
        "query_id",
        pl.Series("user_id", histories.query_user, dtype=pl.Int32),
        pl.Series("part", part.astype(str)),
        "rank",
        "candidates",
        "sampled_rank",
        pl.Series("tied", tied),
        pl.Series("history_length", histories.query_end, dtype=pl.Int32),
        pl.Series("target_count", counts[histories.targets], dtype=pl.Int32),
        *(name for name in (*SHARED_IDS, HELD_OUT_RANK, LISTED) if name in ranks.columns),
        *expected_columns(top, truth).values(),
    )


def ranking_metrics(per_query: pl.DataFrame, prefix: str = "") -> dict[str, object]:
    """Return the full-ranking metrics of one part, with its numbers of users and queries."""
    metrics: dict[str, object] = {}
    if per_query.height:
        for name in METRIC_NAMES:
            metrics[prefix + name] = float(rank_metric(per_query, name).mean())
        if "id_rank" in per_query.columns:
            id_ranks = per_query["id_rank"].to_numpy()
            for name in BY_ID:
                metrics[f"{prefix}{name}_by_id"] = float(metric_at_k(id_ranks, *parse_metric_name(name)).mean())
            metrics[f"{prefix}targets_sharing_an_id"] = int((per_query["sharing"] > 0).sum())
    metrics[f"{prefix}users_evaluated"] = per_query["user_id"].n_unique()
    metrics[f"{prefix}queries_evaluated"] = per_query.height
    return metrics


def secondary_metrics(test: pl.DataFrame) -> dict[str, object]:
    """Return the mean log2 of ranks, the metrics against sampled negatives, and nDCG@10 without tied targets.

    The former two are None, with the reason as `not_measured`, of a recommender that ranks the items of a beam alone.
    """
    metrics: dict[str, object] = {}
    if LISTED in test.columns:
        metrics |= dict.fromkeys(OF_ALL_RANKS) | {"not_measured": f"{MEAN_LOG2_RANK}, sampled_*: {UNRANKED}"}
    else:
        metrics[MEAN_LOG2_RANK] = float(rank_metric(test, MEAN_LOG2_RANK).mean())
        metrics |= {name: float(rank_metric(test, name).mean()) for name in SAMPLED_NAMES}
    untied = test.filter(~pl.col("tied"))
    metrics["untied_queries"] = untied.height
    if untied.height:
        metrics["untied_ndcg_at_10"] = float(rank_metric(untied, "ndcg_at_10").mean())
    if HELD_OUT_RANK in test.columns:
        metrics |= held_out_metrics(test.filter(pl.col(HELD_OUT_RANK) > 0)[HELD_OUT_RANK].to_numpy())
    return metrics


def held_out_metrics(ranks: Int32[np.ndarray, " q"]) -> dict[str, object]:
    """Return the metrics of the queries whose target is held out, by its rank among the held-out items."""
    metrics: dict[str, object] = {"held_out_queries": len(ranks)}
    if len(ranks):
        for name in HELD_OUT:
            metrics[f"held_out_{name}"] = float(metric_at_k(ranks, *parse_metric_name(name)).mean())
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
