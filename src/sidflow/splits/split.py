"""From ordered interactions to sequences, queries and targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.queries import TEST, VALID
from sidflow.contracts.errors import InputError
from sidflow.splits import lint
from sidflow.splits.cuts import cut
from sidflow.splits.params import SplitParams


class Split(NamedTuple):
    """The artifacts of `split`."""

    sequences: pl.DataFrame
    queries: pl.DataFrame
    targets: pl.DataFrame
    report: dict[str, int | float]


def split(interactions: pl.DataFrame, users: int, params: SplitParams, *, no_repeats: bool) -> Split:
    """Cut the interactions (sorted by user and position) as params say.

    Args:
        interactions: the artifact.
        users: how many users the catalogue has.
        params: the section `split`.
        no_repeats: whether `ingest.repeats: first` promised that no user has an item twice.

    Raises:
        InputError: a user has no events, nothing is left to ask, or the lint finds that numbers would mean nothing.
    """
    user = interactions["user_id"].to_numpy()
    items = interactions["item_id"].to_numpy()
    timestamps = interactions["timestamp"].to_numpy()
    lengths = np.bincount(user, minlength=users)
    if not len(user) or not lengths.all():
        raise InputError(
            "artifacts/catalog/interactions.parquet",
            expected="events of every user",
            found="users without any",
            count=int((lengths == 0).sum()),
            remedy="run `dvc repro ingest`",
        )
    starts = np.cumsum(lengths) - lengths
    clock = not np.array_equal(timestamps, interactions["position"].to_numpy())
    cuts = cut(lengths, timestamps, params, clock=clock)
    figures, tied = lint.measure(items, timestamps, starts, cuts, clock=clock)
    lint.refuse(figures, no_repeats=no_repeats)
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
