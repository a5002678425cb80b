"""Who comes first: by timestamp, ties by a hash that no model can learn, repeats as the params say."""

from __future__ import annotations

import numpy as np

from sidflow.catalog.params import Repeats
from sidflow.counting.hashing import mix


def tie_hash(user: np.ndarray, item: np.ndarray, seed: int) -> np.ndarray:
    """Return a uint64 hash of (user, item, seed) for every event."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
    hashed = mix(user.astype(np.uint64) + start)
    hashed ^= item.astype(np.uint64)
    return mix(hashed + np.uint64(0x9E3779B97F4A7C15))


def arrange(user: np.ndarray, item: np.ndarray, timestamp: np.ndarray, seed: int) -> np.ndarray:
    """Return the order of events: by user, timestamp, hash; equal events of one user and second stay interchangeable.

    Only events that share user and second are hashed, which spares most of the work.
    """
    order = _by_user_and_time(user, timestamp)
    tied = same_second(user[order], timestamp[order])
    member = tied.copy()
    member[:-1] |= tied[1:]
    rows = np.flatnonzero(member)
    if len(rows):
        chosen = order[rows]
        group = np.cumsum(~tied[rows])
        hashed = tie_hash(user[chosen], item[chosen], seed)
        order[rows] = chosen[np.lexsort((item[chosen], hashed, group))]
    return order


def _by_user_and_time(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Return the order by user, then timestamp; as one number where both fit, which sorts much faster."""
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    first, span = int(timestamp.min()), int(timestamp.max()) - int(timestamp.min()) + 1
    if (int(user.max()) + 1) * span >= 2**63:
        return np.lexsort((timestamp, user))
    return np.argsort(user.astype(np.int64) * span + (timestamp - first))


def same_second(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Return which ordered events share user and second with the one before, bool [events]."""
    tied = np.zeros(len(user), dtype=bool)
    tied[1:] = (user[1:] == user[:-1]) & (timestamp[1:] == timestamp[:-1])
    return tied


def repeats_last(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return which ordered events repeat the user's event before, bool [events]."""
    again = np.zeros(len(user), dtype=bool)
    again[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    return again


def repeats_any(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return which ordered events have an item that the user already had, bool [events]."""
    again = np.zeros(len(user), dtype=bool)
    order = np.lexsort((item, user)).astype(np.int64, copy=False)
    same = (item[order[1:]] == item[order[:-1]]) & (user[order[1:]] == user[order[:-1]])
    again[order[1:][same]] = True
    return again


def repeat_rate(user: np.ndarray, item: np.ndarray) -> float:
    """Return the share of events whose item the user already had, whatever the order."""
    if not len(user):
        return 0.0
    pair = user.astype(np.int64) * (int(item.max()) + 1) + item
    pair.sort()
    return float((pair[1:] == pair[:-1]).sum()) / len(pair)


def unwanted(user: np.ndarray, item: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Return which ordered events the choice `repeats` drops, bool [events]."""
    if repeats == "first":
        return repeats_any(user, item)
    if repeats == "drop_consecutive":
        return repeats_last(user, item)
    return np.zeros(len(user), dtype=bool)
