"""Results per query: ranks beside what slices need and what comparisons of recommenders need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.evaluations import CUTOFFS, EXPECTED
from sidflow.contracts.artifacts.queries import TEST, VALID
from sidflow.contracts.errors import InputError
from sidflow.contracts.histories import Histories
from sidflow.measures.gains import METRICS, Metric, best_expected_metric_at_k, expected_metric_at_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int32, Int64, Integer

METRIC_NAMES = tuple(f"{metric}_at_{k}" for metric in METRICS for k in CUTOFFS)
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


def match_truth(truth: pl.DataFrame, histories: Histories) -> Truth | None:
    """Return the table TRUTH with the query of every row, or None where the catalogue has no truth."""
    if truth.is_empty():
        return None
    queries = pl.DataFrame(
        {
            "user_id": histories.query_user.astype(np.int32),
            "position": histories.query_end.astype(np.int32),
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
        tied: whether the target shares its time stamp with another event of the user.
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
        *expected_columns(top, truth).values(),
    )
