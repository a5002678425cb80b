"""From ordered interactions to the artifacts of `split`: sequences, queries and targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.queries import TEST, VALID
from sidflow.contracts.errors import InputError
from sidflow.splits.cuts import cut_sequences
from sidflow.splits.lint import check_figures, measure_split
from sidflow.splits.params import SplitParams


class Split(NamedTuple):
    """The artifacts of `split`."""

    sequences: pl.DataFrame
    queries: pl.DataFrame
    targets: pl.DataFrame
    report: dict[str, int | float]


def split_interactions(interactions: pl.DataFrame, users: int, params: SplitParams, *, no_repeats: bool) -> Split:
    """Return sequences, queries and targets of the interactions.

    Args:
        interactions: the artifact, sorted by user and position.
        users: number of users in the catalogue.
        params: the section `split`.
        no_repeats: whether no user may have an item twice (`ingest.repeats: first`).

    Raises:
        InputError: a user has no events, a part has no queries, or the split leaks targets into training.
    """
    user = interactions["user_id"].to_numpy()
    items = interactions["item_id"].to_numpy()
    timestamps = interactions["timestamp"].to_numpy()
    lengths = np.bincount(user, minlength=users)
    if not len(user) or not lengths.all():
        raise InputError(
            "artifacts/catalog/interactions.parquet",
            expected="at least one event of every user",
            found="users without events",
            count=int((lengths == 0).sum()),
            remedy="run `dvc repro ingest`",
        )
    starts = np.cumsum(lengths) - lengths
    has_timestamps = not np.array_equal(timestamps, interactions["position"].to_numpy())
    cuts = cut_sequences(lengths, timestamps, params, has_timestamps=has_timestamps)
    figures, tied = measure_split(items, timestamps, starts, cuts, has_timestamps=has_timestamps)
    check_figures(figures, no_repeats=no_repeats)
    number = np.arange(len(cuts.query_user), dtype=np.int32)
    queries = pl.DataFrame(
        {
            "query_id": number,
            "user_id": cuts.query_user.astype(np.int32),
            "part": np.where(cuts.query_valid, VALID, TEST).tolist(),
            "history_end": cuts.query_end.astype(np.int32),
        }
    )
    targets = pl.DataFrame(
        {"query_id": number, "item_id": items[starts[cuts.query_user] + cuts.query_end].astype(np.int32), "tied": tied}
    )
    return Split(_sequences(interactions, cuts.train_end), queries, targets, figures)


def _sequences(interactions: pl.DataFrame, train_end: np.ndarray) -> pl.DataFrame:
    return (
        interactions.group_by("user_id", maintain_order=True)
        .agg(pl.col("item_id").alias("items"), pl.col("timestamp").alias("timestamps"))
        .with_columns(pl.Series("train_end", train_end, dtype=pl.Int32))
    )
