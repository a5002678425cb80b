"""One row a query: ranks beside what is needed to slice them and to compare recommenders without rerunning them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.evaluations import CUTOFFS, EXPECTED
from sidflow.contracts.artifacts.queries import TEST, VALID
from sidflow.contracts.errors import InputError
from sidflow.contracts.histories import Histories
from sidflow.measures import gains

if TYPE_CHECKING:
    from jaxtyping import Float, Int32

_BLOCK_ROWS = 1_024


class Truth(NamedTuple):
    """The generator's probabilities, and which query each row answers."""

    query: np.ndarray  # int64 [rows], -1 where no query asks for it
    probabilities: np.ndarray  # float32 [rows, n]


def match(truth: pl.DataFrame, histories: Histories) -> Truth | None:
    """Return the truth as rows of queries, or None where the catalogue has none."""
    if truth.is_empty():
        return None
    asked = pl.DataFrame(
        {
            "user_id": histories.query_user.astype(np.int32),
            "position": histories.query_end.astype(np.int32),
            "query_id": np.arange(histories.queries),
        }
    )
    joined = truth.select("user_id", "position").join(
        asked, on=["user_id", "position"], how="left", maintain_order="left"
    )
    return Truth(joined["query_id"].fill_null(-1).to_numpy(), truth["probabilities"].to_numpy())


def expected_columns(top: Int32[np.ndarray, "q k"], truth: Truth | None) -> dict[str, pl.Series]:
    """Return the expected metrics of every query, null where the truth is silent."""
    columns = {name: np.full(len(top), np.nan) for name in EXPECTED}
    if truth is not None:
        rows = np.flatnonzero(truth.query >= 0)
        query = truth.query[rows]
        for name in EXPECTED:
            metric, k = split_name(name.removeprefix("expected_"))
            columns[name][query] = gains.expected(top[query], truth.probabilities[rows], metric, k)
    return {name: pl.Series(name, values, dtype=pl.Float32).fill_nan(None) for name, values in columns.items()}


def best_expected(truth: Truth, asked: np.ndarray, metric: gains.Metric, k: int) -> Float[np.ndarray, " rows"]:
    """Return what the best possible list earns for each query of `asked` (bool [q]) that has a truth."""
    rows = np.flatnonzero((truth.query >= 0) & asked[np.maximum(truth.query, 0)])
    parts = [
        gains.best_expected(truth.probabilities[rows[start : start + _BLOCK_ROWS]], metric, k)
        for start in range(0, len(rows), _BLOCK_ROWS)
    ]
    return np.concatenate([np.zeros(0), *parts])


def split_name(name: str) -> tuple[gains.Metric, int]:
    """Return the metric and the cutoff of a name such as `ndcg_at_10`."""
    metric, k = name.split("_at_")
    assert metric in gains.METRICS
    return metric, int(k)


NAMES = tuple(f"{metric}_at_{k}" for metric in gains.METRICS for k in CUTOFFS)


def per_query(
    histories: Histories,
    ranks: pl.DataFrame,
    top: Int32[np.ndarray, "q k"],
    tied: np.ndarray,
    counts: np.ndarray,
    truth: Truth | None,
) -> pl.DataFrame:
    """Return the table PER_QUERY.

    Raises:
        InputError: the ranking is of another split.
    """
    if ranks.height != histories.queries or len(top) != histories.queries:
        raise InputError(
            "artifacts/rankings",
            expected=f"{histories.queries} queries, as split made",
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
