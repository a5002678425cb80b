"""What would make the numbers of a split lie: measured always, fatal where no number would mean anything."""

from __future__ import annotations

import numpy as np

from sidflow.contracts.errors import InputError
from sidflow.splits.cuts import Cuts


def measure(
    items: np.ndarray, timestamps: np.ndarray, starts: np.ndarray, cuts: Cuts, *, clock: bool
) -> tuple[dict[str, int | float], np.ndarray]:
    """Return the figures of reports/split.json and which targets are tied, bool [q].

    Args:
        items: int [events], in user order.
        timestamps: int64 [events].
        starts: int64 [users], each user's first row.
        cuts: where sequences are cut.
        clock: whether timestamps are times.
    """
    rows = starts[cuts.query_user] + cuts.query_end
    tied = (cuts.query_end > 0) & (timestamps[rows] == timestamps[np.maximum(rows - 1, 0)]) & clock
    user = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(items)))
    position = np.arange(len(items)) - starts[user]
    trained = position < cuts.train_end[user]
    counts = np.bincount(items[trained], minlength=int(items.max()) + 1)
    seen = _first_position(user, items)[rows] < cuts.query_end
    cold = counts[items[rows]] == 0
    copied = _beginnings_elsewhere(items, starts, trained)[rows]
    figures: dict[str, int | float] = {
        "users": len(starts),
        "events": len(items),
        "events_train": int(trained.sum()),
        "users_without_training": int((cuts.train_end == 0).sum()),
        "items_never_trained": int((counts[np.unique(items)] == 0).sum()),
        "timestamps_known": int(clock),
        "duplicated_sequences": _duplicates(items, starts),
    }
    for part, chosen in (("valid", cuts.query_valid), ("test", ~cuts.query_valid)):
        number = int(chosen.sum())
        figures |= {
            f"queries_{part}": number,
            f"users_{part}": len(np.unique(cuts.query_user[chosen])),
            f"mean_history_{part}": float(cuts.query_end[chosen].mean()),
            f"targets_tied_{part}": int((tied & chosen).sum()),
            f"tie_rate_{part}": float(tied[chosen].mean()),
            f"targets_in_history_{part}": int((seen & chosen).sum()),
            f"targets_cold_{part}": int((cold & chosen).sum()),
            f"sequences_in_training_{part}": int((copied & chosen).sum()),
        }
    figures |= _leakage(timestamps, starts, user, trained, cuts, clock)
    return figures, tied


def _first_position(user: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return for every event where the user's first event with the same item stands, int64 [events]."""
    pair = user.astype(np.int64) * (int(items.max()) + 1) + items
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    return first[inverse] - starts[user[first[inverse]]]


def _duplicates(items: np.ndarray, starts: np.ndarray) -> int:
    """Return how many users have, event for event, the sequence of an earlier user."""
    seen: set[bytes] = set()
    raw = np.ascontiguousarray(items, dtype=np.int32)
    ends = np.append(starts[1:], len(items))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        seen.add(raw[start:end].tobytes())
    return len(starts) - len(seen)


def _beginnings_elsewhere(items: np.ndarray, starts: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return for every event whether its user's sequence up to it begins another user's training part, bool [events].

    Beginnings are numbered without hashes: two are one where the beginnings before are and the last items are.
    """
    lengths = np.diff(starts, append=len(items))
    longest = np.argsort(-lengths, kind="stable")
    kinds = int(items.max(initial=0)) + 1
    found = np.zeros(len(items), dtype=bool)
    before = np.zeros(len(starts), dtype=np.int64)  # the number of each user's beginning so far, longest user first
    for place in range(int(lengths.max(initial=0))):
        rows = starts[longest[: np.searchsorted(-lengths[longest], -place)]] + place  # of users that have such an event
        _, number = np.unique(before[: len(rows)] * kinds + items[rows], return_inverse=True)
        trains = trained[rows]
        found[rows] = np.bincount(number, trains)[number] > trains  # somebody's, and not one's own alone
        before = number
    return found


def _leakage(
    timestamps: np.ndarray, starts: np.ndarray, user: np.ndarray, trained: np.ndarray, cuts: Cuts, clock: bool
) -> dict[str, int | float]:
    """Return how much of the training lies after what is asked: unavoidable per user, forbidden across a time cut."""
    if not clock:
        return {}
    rows = starts[cuts.query_user] + cuts.query_end
    latest = int(timestamps[trained].max()) if trained.any() else 0
    test = timestamps[rows][~cuts.query_valid]
    figures: dict[str, int | float] = {"test_targets_before_last_training": int((test <= latest).sum())}
    if cuts.cut_seconds is not None:
        first_valid, first_test = cuts.cut_seconds
        late = int((timestamps[trained] >= first_valid).sum()) + int(
            (timestamps[rows][cuts.query_valid] >= first_test).sum()
        )
        figures |= {
            "cut_valid_seconds": first_valid,
            "cut_test_seconds": first_test,
            "future_events_in_training": late,
        }
    return figures


def refuse(figures: dict[str, int | float], *, no_repeats: bool) -> None:
    """Stop where the split's numbers would mean nothing.

    Args:
        figures: what `measure` returned.
        no_repeats: whether ingest promised that no user has an item twice.

    Raises:
        InputError: a target stands in its history though repeats were dropped; the future is in the training part.
    """
    inside = int(figures["targets_in_history_valid"] + figures["targets_in_history_test"])
    if no_repeats and inside:
        raise InputError(
            "artifacts/catalog/interactions.parquet",
            expected="no item twice per user, as ingest.repeats: first promises",
            found="targets that stand in their own history",
            count=inside,
            remedy="run `dvc repro ingest`; if that repeats, report a defect",
        )
    if figures.get("future_events_in_training", 0):
        raise InputError(
            "split",
            expected="nothing after the cut in training or validation",
            found="events of the future",
            count=int(figures["future_events_in_training"]),
            remedy="report this as a defect of `split`",
        )
