"""Checks of a split: figures on leakage, ties, repeats and cold targets; errors where metrics would be invalid."""

from __future__ import annotations

import numpy as np

from sidflow.core.errors import InputError
from sidflow.sequences.cuts import Cuts
from sidflow.sequences.slices import rows_and_positions


def measure_split(
    items: np.ndarray, timestamps: np.ndarray, starts: np.ndarray, cuts: Cuts, *, has_timestamps: bool
) -> tuple[dict[str, int | float], np.ndarray]:
    """Return the figures of reports/split.json, and which targets share their timestamp with a neighbour, bool [q].

    Args:
        items: int [events], in user order.
        timestamps: int64 [events].
        starts: int64 [users], the first row of each user.
        cuts: the split.
        has_timestamps: whether timestamps are times, not ranks.
    """
    rows = starts[cuts.query_user] + cuts.query_end
    user, position = rows_and_positions(np.diff(starts, append=len(items)))
    with_previous = np.zeros(len(items) + 1, dtype=bool)
    with_previous[1:-1] = (user[1:] == user[:-1]) & (timestamps[1:] == timestamps[:-1])
    tied = with_previous[rows] | with_previous[rows + 1]
    is_training = position < cuts.train_end[user]
    counts = np.bincount(items[is_training], minlength=int(items.max()) + 1)
    in_history = _first_position(user, items, starts)[rows] < cuts.query_end
    cold = counts[items[rows]] == 0
    in_other_training = _prefix_in_other_training(items, starts, is_training)[rows]
    figures: dict[str, int | float] = {
        "users": len(starts),
        "events": len(items),
        "events_train": int(is_training.sum()),
        "users_without_training": int((cuts.train_end == 0).sum()),
        "items_never_trained": int((counts[np.unique(items)] == 0).sum()),
        "timestamps_known": int(has_timestamps),
        "duplicated_sequences": _duplicated_sequences(items, starts),
    }
    for part, in_part in (("valid", cuts.query_valid), ("test", ~cuts.query_valid)):
        query_count = int(in_part.sum())
        figures |= {
            f"queries_{part}": query_count,
            f"users_{part}": len(np.unique(cuts.query_user[in_part])),
            f"mean_history_{part}": float(cuts.query_end[in_part].mean()),
            f"targets_tied_{part}": int((tied & in_part).sum()),
            f"tie_rate_{part}": float(tied[in_part].mean()),
            f"targets_in_history_{part}": int((in_history & in_part).sum()),
            f"targets_cold_{part}": int((cold & in_part).sum()),
            f"sequences_in_training_{part}": int((in_other_training & in_part).sum()),
        }
    if has_timestamps:
        figures |= _leakage(timestamps, timestamps[rows], is_training, cuts)
    return figures, tied


def _first_position(user: np.ndarray, items: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return for every event the position of the user's first event with that item, int64 [events]."""
    pair = user.astype(np.int64) * (int(items.max()) + 1) + items
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    return first[inverse] - starts[user[first[inverse]]]


def _duplicated_sequences(items: np.ndarray, starts: np.ndarray) -> int:
    """Return the number of users with events whose whole sequence equals that of an earlier user."""
    raw = np.ascontiguousarray(items, dtype=np.int32)
    ends = np.append(starts[1:], len(items))
    bounds = [(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end]
    return len(bounds) - len({raw[start:end].tobytes() for start, end in bounds})


def _prefix_in_other_training(items: np.ndarray, starts: np.ndarray, is_training: np.ndarray) -> np.ndarray:
    """Return for every event whether another user's training part begins with the sequence up to it, bool [events].

    Prefixes are numbered exactly, without hashes: two are equal if their shorter prefixes and their last items are.
    """
    lengths = np.diff(starts, append=len(items))
    by_length = np.argsort(-lengths, kind="stable")
    shortness = -lengths[by_length]  # ascending
    item_bound = int(items.max(initial=0)) + 1
    matches = np.zeros(len(items), dtype=bool)
    prefix_ids = np.zeros(len(starts), dtype=np.int64)  # id of each user's prefix so far, longest user first
    for position in range(int(lengths.max(initial=0))):
        rows = starts[by_length[: np.searchsorted(shortness, -position)]] + position
        _, ids = np.unique(prefix_ids[: len(rows)] * item_bound + items[rows], return_inverse=True)
        in_training = is_training[rows]
        matches[rows] = np.bincount(ids, in_training)[ids] > in_training  # another user's, not only its own
        prefix_ids = ids
    return matches


def _leakage(
    timestamps: np.ndarray, target_times: np.ndarray, is_training: np.ndarray, cuts: Cuts
) -> dict[str, int | float]:
    """Return the figures on training events later than targets: allowed across users, an error across a time cut."""
    latest = int(timestamps[is_training].max()) if is_training.any() else 0
    test = target_times[~cuts.query_valid]
    figures: dict[str, int | float] = {"test_targets_before_last_training": int((test <= latest).sum())}
    if cuts.cut_seconds is not None:
        first_valid, first_test = cuts.cut_seconds
        future_events = int((timestamps[is_training] >= first_valid).sum()) + int(
            (target_times[cuts.query_valid] >= first_test).sum()
        )
        figures |= {
            "cut_valid_seconds": first_valid,
            "cut_test_seconds": first_test,
            "future_events_in_training": future_events,
        }
    return figures


def check_figures(figures: dict[str, int | float], *, no_repeats: bool) -> None:
    """Check that no metric of the split would be invalid.

    Args:
        figures: of `measure_split`.
        no_repeats: whether no user may have an item twice.

    Raises:
        InputError: a target is in its own history though repeats were dropped, or training has events after a cut.
    """
    targets_in_history = int(figures["targets_in_history_valid"] + figures["targets_in_history_test"])
    if no_repeats and targets_in_history:
        raise InputError(
            "artifacts/catalog/interactions.parquet",
            expected="no item twice per user, with ingest.repeats: first",
            found="targets in their own history",
            count=targets_in_history,
            remedy="run `dvc repro ingest`; if that repeats, report a defect",
        )
    if figures.get("future_events_in_training", 0):
        raise InputError(
            "split",
            expected="nothing after the cut in training or validation",
            found="later events",
            count=int(figures["future_events_in_training"]),
            remedy="report this as a defect of `split`",
        )
