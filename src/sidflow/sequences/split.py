"""From ordered interactions to sequences, queries and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.artifacts.catalog import has_clock
from sidflow.artifacts.split import TEST, VALID
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.sequences.cuts import (
    Cuts,
    before_first_test,
    cut_as_published,
    cut_by_samples,
    cut_by_time,
    first_test_query,
    leave_last_n,
    without_events,
)
from sidflow.sequences.lint import check_figures, measure_split

SHARE = "share of all events (global_time) or samples (sample_ratio)"


class SplitParams(Params):
    """Which events are held out for validation and test.

    `leave_one_out` and `leave_last_n` hold out each user's last events; `global_time` holds out all that happens after
    two points in time. MiniOneRec's protocol: `sample_ratio` holds out a share of all samples in the order of time;
    `published` takes the parts of the rows as the source has them.
    """

    method: Literal["leave_one_out", "leave_last_n", "global_time", "sample_ratio", "published"] = Field(
        default="leave_one_out",
        description="leave_one_out | leave_last_n (of each user) | global_time (two cuts) | sample_ratio | published",
    )
    n: int = Field(default=1, ge=1, le=100, description="events per user and part, of leave_last_n alone")
    min_history: int = Field(
        default=1, ge=1, description="events that must precede a target; users with fewer are trained on, not evaluated"
    )
    valid_share: float = Field(default=0.1, gt=0, lt=0.5, description=SHARE)
    test_share: float = Field(default=0.1, gt=0, lt=0.5, description=SHARE)
    queries_per_user: int = Field(
        default=1, ge=1, description="first events after each cut that are predicted, of global_time alone"
    )
    held_out_items: float = Field(
        default=0.0, ge=0, lt=1, description="share of items that only test targets have, as if they were new; 0 = none"
    )
    held_out_seed: int = Field(default=0, ge=0, description="of the draw of these items")
    without_last: int = Field(
        default=0,
        ge=0,
        le=10,
        description="last events of each user left out of all parts; 1: test on validation's targets",
    )


def cut_sequences(
    lengths: np.ndarray,
    timestamps: np.ndarray,
    params: SplitParams,
    *,
    has_timestamps: bool,
    parts: Sequence[str | None] | None = None,
) -> Cuts:
    """Return the split that params describe.

    Args:
        lengths: int [users], events per user.
        timestamps: int64 [events], in user order.
        params: the section `split`.
        has_timestamps: whether timestamps are times, not ranks.
        parts: [events], the published part of each event, where the source has them.

    Raises:
        InputError: `global_time` or `sample_ratio` without real timestamps, `published` without published parts or
            with parts that leak, or a part without queries.
    """
    if params.method == "published":
        if parts is None:
            raise InputError(
                "split.method",
                expected="for `published` a source that brings its split along",
                found="events without a part",
                remedy="ingest.source: minionerec with its files of train, valid and test does; or use another method",
            )
        cuts = cut_as_published(lengths, parts, params.min_history)
    elif params.method in ("global_time", "sample_ratio"):
        if not has_timestamps:
            raise InputError(
                "split.method",
                expected=f"real timestamps for `{params.method}`",
                found="a source whose timestamps are only positions",
                remedy="use split.method: leave_one_out or leave_last_n, or published where rows have their part",
            )
        shares = params.valid_share, params.test_share, params.min_history
        if params.method == "sample_ratio":
            cuts = cut_by_samples(lengths, timestamps, *shares)
        else:
            cuts = cut_by_time(lengths, timestamps, *shares, params.queries_per_user)
    else:
        cuts = leave_last_n(lengths, params.n if params.method == "leave_last_n" else 1, params.min_history)
    _require_queries(cuts)
    return cuts


def _require_queries(cuts: Cuts) -> None:
    for part, count in (("valid", int(cuts.query_valid.sum())), ("test", int((~cuts.query_valid).sum()))):
        if not count:
            raise InputError(
                "split",
                expected=f"queries in the part `{part}`",
                found="none: no user has enough events",
                remedy="lower split.min_history or split.held_out_items, change the method, or raise "
                "ingest.min_user_events",
            )


def without_last_events(interactions: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the interactions without the last `count` of each user; a user's first event always stays."""
    left = pl.len().cast(pl.Int64).over("user_id") - count
    return interactions.filter(pl.col("position") < pl.max_horizontal(left, 1))


def draw_held_out_items(items: int, params: SplitParams) -> np.ndarray:
    """Return which of `items` items are held out, bool [items]: a draw that depends on params alone."""
    return np.random.default_rng(params.held_out_seed).random(items) < params.held_out_items


class Split(NamedTuple):
    """The artifacts of `split`."""

    sequences: pl.DataFrame
    queries: pl.DataFrame
    targets: pl.DataFrame
    report: dict[str, int | float]


def split_interactions(
    interactions: pl.DataFrame,
    users: int,
    params: SplitParams,
    *,
    no_repeats: bool,
    has_timestamps: bool | None = None,
) -> Split:
    """Return sequences, queries and targets of the interactions.

    Args:
        interactions: the artifact, sorted by user and position.
        users: number of users in the catalogue.
        params: the section `split`.
        no_repeats: whether no user may have an item twice (`ingest.repeats: first`).
        has_timestamps: whether timestamps are times; None: unless they are all positions.

    Raises:
        InputError: a user has no events, a part has no queries, or the split leaks targets into training.
    """
    interactions = without_last_events(interactions, params.without_last)
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
    if has_timestamps is None:
        has_timestamps = has_clock(interactions, {})
    parts = interactions["part"].to_list() if "part" in interactions.columns else None
    cuts = cut_sequences(lengths, timestamps, params, has_timestamps=has_timestamps, parts=parts)
    held_out = draw_held_out_items(int(items.max()) + 1, params)
    kept = ~(held_out[items] & before_first_test(cuts, lengths))
    position = cuts.query_end
    if params.held_out_items:
        cuts, position = without_events(cuts, lengths, ~kept, params.min_history)
        _require_queries(cuts)
        lengths = np.bincount(user[kept], minlength=users)
        items, timestamps = items[kept], timestamps[kept]
    starts = np.cumsum(lengths) - lengths
    figures, tied = measure_split(items, timestamps, starts, cuts, has_timestamps=has_timestamps)
    check_figures(figures, no_repeats=no_repeats)
    query_id = np.arange(len(cuts.query_user), dtype=np.int32)
    queries = pl.DataFrame(
        {
            "query_id": query_id,
            "user_id": cuts.query_user.astype(np.int32),
            "part": np.where(cuts.query_valid, VALID, TEST).tolist(),
            "history_end": cuts.query_end.astype(np.int32),
        }
    )
    targets = pl.DataFrame(
        {
            "query_id": query_id,
            "item_id": items[starts[cuts.query_user] + cuts.query_end].astype(np.int32),
            "tied": tied,
        }
    )
    if params.held_out_items:
        queries = queries.with_columns(pl.Series("position", position, dtype=pl.Int32))
        figures |= {"held_out_items": int(held_out.sum()), "held_out_events": int((~kept).sum())}
    sequences = _sequences(interactions, kept, cuts.train_end)
    if cuts.test_start is not None and (cuts.test_start < first_test_query(cuts, lengths)).any():
        sequences = sequences.with_columns(pl.Series("test_start", cuts.test_start, dtype=pl.Int32))
    return Split(sequences, queries, targets, figures)


def _sequences(interactions: pl.DataFrame, kept: np.ndarray, train_end: np.ndarray) -> pl.DataFrame:
    """Return the table of sequences; a user whose events are all dropped keeps a row."""
    left = pl.Series("kept", kept)
    return (
        interactions.with_columns(left)
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.col("item_id").filter(pl.col("kept")).alias("items"),
            pl.col("timestamp").filter(pl.col("kept")).alias("timestamps"),
        )
        .with_columns(pl.Series("train_end", train_end, dtype=pl.Int32))
    )
