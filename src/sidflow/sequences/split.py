"""From ordered interactions to sequences, queries and targets."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.artifacts.split import TEST, VALID
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.sequences.lint import check_figures, measure_split


class SplitParams(Params):
    """Which events are held out for validation and test.

    `leave_one_out` and `leave_last_n` hold out each user's last events; `global_time` holds out all that happens after
    two points in time; `sample_ratio` is MiniOneRec's protocol, a share of all samples in the order of time.
    """

    method: Literal["leave_one_out", "leave_last_n", "global_time", "sample_ratio"] = Field(
        default="leave_one_out",
        description="leave_one_out | leave_last_n (of each user) | global_time (two cuts for all) | sample_ratio",
    )
    n: int = Field(default=1, ge=1, le=100, description="events per user and part, of leave_last_n alone")
    min_history: int = Field(
        default=1, ge=1, description="events that must precede a target; users with fewer are trained on, not evaluated"
    )
    valid_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of events or samples, of the last two")
    test_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of events or samples, of the last two")
    queries_per_user: int = Field(
        default=1, ge=1, description="first events after each cut that are predicted, of global_time alone"
    )
    held_out_items: float = Field(
        default=0.0, ge=0, lt=1, description="share of items that only test targets have, as if they were new; 0 = none"
    )
    held_out_seed: int = Field(default=0, ge=0, description="of the draw of these items")


class Cuts(NamedTuple):
    """A split of the events; users in order of user_id."""

    train_end: np.ndarray  # int64 [users]
    query_user: np.ndarray  # int64 [q], sorted, with query_end sorted within a user
    query_end: np.ndarray  # int64 [q]: the target's position
    query_valid: np.ndarray  # bool [q]
    cut_seconds: tuple[int, int] | None = None  # first second of validation and of test, of `global_time` only


def leave_last_n(lengths: np.ndarray, n: int, min_history: int) -> Cuts:
    """Return a split with each user's last n events as test targets and the n before as validation targets.

    The first `min_history` events of a user always stay in training. A user with fewer than 2n events beyond them
    fills the test part first, then validation. A user with none beyond them has training events only.

    Args:
        lengths: int [users], events per user.
        n: targets per user and part.
        min_history: events before a user's first target.
    """
    available = np.maximum(lengths - min_history, 0)
    test = np.minimum(available, n)
    valid = np.minimum(available - test, n)
    train_end = lengths - test - valid
    query_count = test + valid
    user = np.repeat(np.arange(len(lengths)), query_count)
    offset = np.arange(query_count.sum()) - np.repeat(np.cumsum(query_count) - query_count, query_count)
    end = train_end[user] + offset
    return Cuts(train_end, user, end, end < (lengths - test)[user])


def cut_by_time(
    lengths: np.ndarray,
    timestamps: np.ndarray,
    valid_share: float,
    test_share: float,
    min_history: int,
    max_queries: int,
) -> Cuts:
    """Return a split at two points in time, the same for all users.

    The validation targets of a user are the first `max_queries` events between the cuts; the test targets are those
    after the second cut. A user needs `min_history` events before a cut to have targets in its part.

    A history holds every earlier event of the user, earlier test events included, as in deployment. Training uses no
    event at or after the first cut. The second fit (`refit`) uses none at or after the second cut.

    Args:
        lengths: int [users], events per user.
        timestamps: int64 [events], in user order.
        valid_share: share of all events between the cuts.
        test_share: share of all events after the second cut.
        min_history: events of a user before the cut.
        max_queries: targets per user and part.

    Raises:
        InputError: the two cuts and the first event are not three different times.
    """
    ordered = np.sort(timestamps)
    total = len(ordered)
    test_cut = int(ordered[total - max(1, round(total * test_share))])
    valid_cut = int(ordered[max(0, total - max(2, round(total * (test_share + valid_share))))])
    if not ordered[0] < valid_cut < test_cut:
        raise InputError(
            "split",
            expected="three distinct periods for training, validation and test",
            found=f"cuts at {valid_cut} and {test_cut}, first event at {int(ordered[0])}",
            remedy="change split.valid_share and split.test_share, or use split.method: leave_one_out",
        )
    starts = np.cumsum(lengths) - lengths
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(total) - starts[user]
    train_end = np.bincount(user[timestamps < valid_cut], minlength=len(lengths))
    test_start = np.bincount(user[timestamps < test_cut], minlength=len(lengths))
    valid = (position >= train_end[user]) & (position < np.minimum(train_end + max_queries, test_start)[user])
    test = (position >= test_start[user]) & (position < (test_start + max_queries)[user])
    is_target = (valid & (train_end >= min_history)[user]) | (test & (test_start >= min_history)[user])
    return Cuts(train_end, user[is_target], position[is_target], valid[is_target], (valid_cut, test_cut))


def cut_by_samples(
    lengths: np.ndarray, timestamps: np.ndarray, valid_share: float, test_share: float, min_history: int
) -> Cuts:
    """Return a split of all samples in the order of time: the first ones train, the next ones validate, the last test.

    A sample is an event with the events of its user before it; every event but a user's first makes one. Samples of
    one second stay in the order of users and positions. A user has as many queries as samples in a part. The training
    part of a user without training samples is empty.

    Args:
        lengths: int [users], events per user.
        timestamps: int64 [events], in user order.
        valid_share: share of the samples.
        test_share: share of the samples.
        min_history: events before a validation or test target; samples with fewer are left out there.

    Source: MiniOneRec (arXiv 2510.24431), its data processing with the ratio 8:1:1.
    """
    starts = np.cumsum(lengths) - lengths
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(user)) - starts[user]
    samples = np.flatnonzero(position > 0)
    ordered = samples[np.argsort(timestamps[samples], kind="stable")]
    valid_start = int(len(ordered) * round(1 - valid_share - test_share, 9))
    test_start = int(len(ordered) * round(1 - test_share, 9))
    training = np.bincount(user[ordered[:valid_start]], minlength=len(lengths))
    is_valid, is_test = np.zeros(len(user), dtype=bool), np.zeros(len(user), dtype=bool)
    is_valid[ordered[valid_start:test_start]] = True
    is_test[ordered[test_start:]] = True
    target = (is_valid | is_test) & (position >= min_history)
    return Cuts(np.where(training > 0, training + 1, 0), user[target], position[target], is_valid[target])


def cut_sequences(lengths: np.ndarray, timestamps: np.ndarray, params: SplitParams, *, has_timestamps: bool) -> Cuts:
    """Return the split that params describe.

    Raises:
        InputError: `global_time` or `sample_ratio` without real timestamps, or a part without queries.
    """
    if params.method in ("global_time", "sample_ratio"):
        if not has_timestamps:
            raise InputError(
                "split.method",
                expected=f"real timestamps for `{params.method}`",
                found="a source whose timestamps are only positions",
                remedy="use split.method: leave_one_out or leave_last_n",
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


def draw_held_out_items(items: int, params: SplitParams) -> np.ndarray:
    """Return which of `items` items are held out, bool [items]: a draw that depends on params alone."""
    return np.random.default_rng(params.held_out_seed).random(items) < params.held_out_items


def without_events(cuts: Cuts, lengths: np.ndarray, dropped: np.ndarray, min_history: int) -> tuple[Cuts, np.ndarray]:
    """Return the cuts of the sequences that are left when events are dropped, and their targets' positions before.

    A validation query goes whose target is dropped or whose history is then shorter than `min_history`. All test
    queries of a user go where the first of them has so short a history.

    Args:
        cuts: the split with all events.
        lengths: int [users], events per user.
        dropped: bool [events], in user order.
        min_history: events before a target.
    """
    starts = np.cumsum(lengths) - lengths
    before = np.concatenate([[0], np.cumsum(dropped)])  # dropped events before each event
    start, query_start = before[starts], starts[cuts.query_user]
    history = cuts.query_end - (before[query_start + cuts.query_end] - before[query_start])
    shortest = np.full(len(lengths), history.max(initial=0))  # history of a user's first test query
    is_test = ~cuts.query_valid
    np.minimum.at(shortest, cuts.query_user[is_test], history[is_test])
    enough = np.where(is_test, shortest[cuts.query_user], history) >= min_history
    kept = enough & ~dropped[query_start + cuts.query_end]
    left = Cuts(
        cuts.train_end - (before[starts + cuts.train_end] - start),
        cuts.query_user[kept],
        history[kept],
        cuts.query_valid[kept],
        cuts.cut_seconds,
    )
    return left, cuts.query_end[kept]


def before_first_test(cuts: Cuts, lengths: np.ndarray) -> np.ndarray:
    """Return which events are earlier than their user's first test target, bool [events] in user order."""
    first = np.array(lengths, dtype=np.int64)
    is_test = ~cuts.query_valid
    np.minimum.at(first, cuts.query_user[is_test], cuts.query_end[is_test])
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths) < np.repeat(first, lengths)


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
    has_timestamps = not np.array_equal(timestamps, interactions["position"].to_numpy())
    cuts = cut_sequences(lengths, timestamps, params, has_timestamps=has_timestamps)
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
    return Split(_sequences(interactions, kept, cuts.train_end), queries, targets, figures)


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
