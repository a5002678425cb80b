"""Where each user's sequence is cut into training, validation and test, and which positions are targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidflow.contracts.errors import InputError
from sidflow.splits.params import SplitParams


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


def cut_sequences(lengths: np.ndarray, timestamps: np.ndarray, params: SplitParams, *, has_timestamps: bool) -> Cuts:
    """Return the split that params describe.

    Raises:
        InputError: `global_time` without real timestamps, or a part without queries.
    """
    if params.method == "global_time":
        if not has_timestamps:
            raise InputError(
                "split.method",
                expected="real timestamps for `global_time`",
                found="a source whose timestamps are only positions",
                remedy="use split.method: leave_one_out or leave_last_n",
            )
        cuts = cut_by_time(
            lengths, timestamps, params.valid_share, params.test_share, params.min_history, params.queries_per_user
        )
    else:
        cuts = leave_last_n(lengths, params.n if params.method == "leave_last_n" else 1, params.min_history)
    for part, count in (("valid", int(cuts.query_valid.sum())), ("test", int((~cuts.query_valid).sum()))):
        if not count:
            raise InputError(
                "split",
                expected=f"queries in the part `{part}`",
                found="none: no user has enough events",
                remedy="lower split.min_history, change the method, or raise ingest.min_user_events",
            )
    return cuts
