"""Where sequences are cut into training parts and queries: at users' ends, at two times, by samples, as published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidflow.artifacts.split import TEST, TRAIN, VALID
from sidflow.core.errors import InputError
from sidflow.sequences.slices import rows_and_positions


class Cuts(NamedTuple):
    """A split of the events; users in order of user_id."""

    train_end: np.ndarray  # int64 [users]
    query_user: np.ndarray  # int64 [q], sorted, with query_end sorted within a user
    query_end: np.ndarray  # int64 [q]: the target's position
    query_valid: np.ndarray  # bool [q]
    cut_seconds: tuple[int, int] | None = None  # first second of validation and of test, of `global_time` only
    test_start: np.ndarray | None = None  # int64 [users]: first test event, where some are too early to be targets


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
    user, number = rows_and_positions(test + valid)
    end = train_end[user] + number
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
    user, position = rows_and_positions(lengths)
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
    user, position = rows_and_positions(lengths)
    samples = np.flatnonzero(position > 0)
    ordered = samples[np.argsort(timestamps[samples], kind="stable")]
    valid_start = int(len(ordered) * round(1 - valid_share - test_share, 9))
    test_start = int(len(ordered) * round(1 - test_share, 9))
    training = np.bincount(user[ordered[:valid_start]], minlength=len(lengths))
    is_valid, is_test = np.zeros(len(user), dtype=bool), np.zeros(len(user), dtype=bool)
    is_valid[ordered[valid_start:test_start]] = True
    is_test[ordered[test_start:]] = True
    target = (is_valid | is_test) & (position >= min_history)
    return Cuts(
        np.where(training > 0, training + 1, 0),
        user[target],
        position[target],
        is_valid[target],
        test_start=_first_positions(user[is_test], position[is_test], lengths),
    )


def cut_as_published(lengths: np.ndarray, parts: Sequence[str | None], min_history: int) -> Cuts:
    """Return the split that a source publishes: each event belongs to the part that has it as a target there.

    A user's training part ends with its last training target; the earlier events, those that no row has as its target
    included, belong to it. The training part of a user without training targets is empty.

    Args:
        lengths: int [users], events per user.
        parts: [events] in user order, the column `part` of the interactions.
        min_history: events before a validation or test target; targets with fewer are left out there.

    Raises:
        InputError: a part has no targets, an event is a target in several parts, or a user has a target of an earlier
            part after one of a later part.
    """
    user, position = rows_and_positions(lengths)
    order = {None: -1, TRAIN: 0, VALID: 1, TEST: 2}
    part = np.array([order.get(name, len(order)) for name in parts], dtype=np.int64)
    absent = [name for name in (TRAIN, VALID, TEST) if not (part == order[name]).any()]
    if absent:
        raise InputError(
            "split.method: published",
            expected=f"targets in each of the published parts {TRAIN}, {VALID} and {TEST}",
            found=f"none in {', '.join(absent)}",
            remedy="put the published files of all parts into ingest.path, or use another split.method",
        )
    rows = np.flatnonzero(part >= 0)
    several = rows[part[rows] == len(order)]
    early = rows[1:][(user[rows[1:]] == user[rows[:-1]]) & (part[rows[1:]] < part[rows[:-1]])]
    for leaks, found in (
        (several, "targets of several parts"),
        (early, "targets of a part after those of a later one"),
    ):
        if len(leaks):
            raise InputError(
                "split.method: published",
                expected="each target in one part, and a user's parts in the order of time",
                found=found,
                count=len(leaks),
                example=f"user_id {user[leaks[0]]}, position {position[leaks[0]]}: {parts[int(leaks[0])]}",
                remedy="remove the rows from the published files, or use another split.method",
            )
    train_end = np.zeros(len(lengths), dtype=np.int64)
    is_training, is_test = part == order[TRAIN], part == order[TEST]
    is_query = (part >= order[VALID]) & (position >= min_history)
    np.maximum.at(train_end, user[is_training], position[is_training] + 1)
    return Cuts(
        train_end,
        user[is_query],
        position[is_query],
        part[is_query] == order[VALID],
        test_start=_first_positions(user[is_test], position[is_test], lengths),
    )


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
        None if cuts.test_start is None else cuts.test_start - (before[starts + cuts.test_start] - start),
    )
    return left, cuts.query_end[kept]


def before_first_test(cuts: Cuts, lengths: np.ndarray) -> np.ndarray:
    """Return which events are earlier than their user's first test target, bool [events] in user order."""
    user, position = rows_and_positions(lengths)
    return position < first_test_query(cuts, lengths)[user]


def first_test_query(cuts: Cuts, lengths: np.ndarray) -> np.ndarray:
    """Return the position of each user's first test target, int64 [users]; the user's length where there is none."""
    is_test = ~cuts.query_valid
    return _first_positions(cuts.query_user[is_test], cuts.query_end[is_test], lengths)


def _first_positions(user: np.ndarray, position: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the first `position` of each user, int64 [users]; the user's length where there is none."""
    first = np.array(lengths, dtype=np.int64)
    np.minimum.at(first, user, position)
    return first
