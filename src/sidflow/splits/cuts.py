"""Where each user's sequence is cut: what is trained on, and which positions are asked for in each part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidflow.contracts.errors import InputError
from sidflow.splits.params import SplitParams


class Cuts(NamedTuple):
    """A split of the events in user order."""

    train_end: np.ndarray  # int64 [users]
    query_user: np.ndarray  # int64 [q], sorted, with query_end sorted within a user
    query_end: np.ndarray  # int64 [q]: the target's position
    query_valid: np.ndarray  # bool [q]
    cut_seconds: tuple[int, int] | None = None  # first second of validation and of test, of `global_time` only


def leave_last(lengths: np.ndarray, n: int, min_history: int) -> Cuts:
    """Hold out each user's last n events for the test and the n before for validation.

    A user too short for both gives as much as there is: the test first, then validation, as long as `min_history`
    events stay to train on; one with no event to spare is trained on whole and not asked.
    """
    spare = np.maximum(lengths - min_history, 0)
    test = np.minimum(spare, n)
    valid = np.minimum(spare - test, n)
    train_end = lengths - test - valid
    asked = test + valid
    user = np.repeat(np.arange(len(lengths)), asked)
    offset = np.arange(asked.sum()) - np.repeat(np.cumsum(asked) - asked, asked)
    end = train_end[user] + offset
    return Cuts(train_end, user, end, end < (lengths - test)[user])


def global_time(
    lengths: np.ndarray, timestamps: np.ndarray, valid_share: float, test_share: float, min_history: int, most: int
) -> Cuts:
    """Hold out what happens after two points in time that leave the wanted shares of events behind them.

    Of each user, the first `most` events after a cut are asked for in its part, if `min_history` events precede the
    cut. Histories hold everything before the target, so a later test query of a user sees its earlier test events, as a
    deployed model would; training sees nothing at or after the first cut, and a second fit (`refit`), which goes up to
    a user's first test query, nothing at or after the second.
    """
    ordered = np.sort(timestamps)
    total = len(ordered)
    test_cut = int(ordered[total - max(1, round(total * test_share))])
    valid_cut = int(ordered[max(0, total - max(2, round(total * (test_share + valid_share))))])
    if not ordered[0] < valid_cut < test_cut:
        raise InputError(
            "split",
            expected="three stretches of time for training, validation and test",
            found=f"cuts at {valid_cut} and {test_cut}, first event at {int(ordered[0])}",
            remedy="change split.valid_share and split.test_share, or use split.method: leave_one_out",
        )
    starts = np.cumsum(lengths) - lengths
    user = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(total) - starts[user]
    train_end = np.bincount(user[timestamps < valid_cut], minlength=len(lengths))
    test_start = np.bincount(user[timestamps < test_cut], minlength=len(lengths))
    valid = (position >= train_end[user]) & (position < np.minimum(train_end + most, test_start)[user])
    test = (position >= test_start[user]) & (position < (test_start + most)[user])
    asked = (valid & (train_end >= min_history)[user]) | (test & (test_start >= min_history)[user])
    return Cuts(train_end, user[asked], position[asked], valid[asked], (valid_cut, test_cut))


def cut(lengths: np.ndarray, timestamps: np.ndarray, params: SplitParams, *, clock: bool) -> Cuts:
    """Cut as params say.

    Raises:
        InputError: a split by time without a clock, or one that leaves nothing to ask.
    """
    if params.method == "global_time":
        if not clock:
            raise InputError(
                "split.method",
                expected="real timestamps for `global_time`",
                found="a source whose timestamps are only positions",
                remedy="use split.method: leave_one_out or leave_last_n",
            )
        cuts = global_time(
            lengths, timestamps, params.valid_share, params.test_share, params.min_history, params.queries_per_user
        )
    else:
        cuts = leave_last(lengths, params.n if params.method == "leave_last_n" else 1, params.min_history)
    for part, count in (("valid", int(cuts.query_valid.sum())), ("test", int((~cuts.query_valid).sum()))):
        if not count:
            raise InputError(
                "split",
                expected=f"queries in the part `{part}`",
                found="none: no user has enough events",
                remedy="lower split.min_history, change the method, or raise ingest.min_user_events",
            )
    return cuts
