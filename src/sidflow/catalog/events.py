"""Events: keys to dense codes, order by timestamp with ties by a hash, dropped repeats, the iterated k-core."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog.params import Repeats
from sidflow.core.hashing import mix_bits


class EncodedKeys(NamedTuple):
    """A column of keys as indices into the sorted keys."""

    codes: np.ndarray  # int32 [events], indices into keys
    keys: list[str]  # in key order


def sort_keys(keys: pl.Series) -> pl.Series:
    """Return the distinct keys as strings, sorted numerically if all are integers, else as strings."""
    text = keys.unique().cast(pl.String).unique()
    integers = text.str.contains(r"^-?[0-9]{1,18}$").all()
    if not (integers and len(text)):
        return text.sort()
    return text.to_frame("key").sort(pl.col("key").cast(pl.Int64), pl.col("key"))["key"]


def encode_keys(column: pl.Series, keys: pl.Series | None = None) -> EncodedKeys:
    """Return `column` as int32 indices into `keys`, its keys in key order; None takes them from the column."""
    ordered = sort_keys(column) if keys is None else keys
    if isinstance(column.dtype, pl.Categorical):
        distinct = column.unique()
        physical = distinct.to_physical().to_numpy()
        rank = np.zeros(int(physical.max(initial=0)) + 1, dtype=np.int32)
        rank[physical] = encode_keys(distinct.cast(pl.String), ordered).codes
        return EncodedKeys(rank[column.to_physical().to_numpy()], ordered.to_list())
    codes = column.cast(pl.String).cast(pl.Enum(ordered)).to_physical().to_numpy()
    return EncodedKeys(codes.astype(np.int32), ordered.to_list())


def tie_hash(user: np.ndarray, item: np.ndarray, seed: int) -> np.ndarray:
    """Return a uint64 hash of (user, item, seed) for every event."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
    hashed = mix_bits(user.astype(np.uint64) + start)
    hashed ^= item.astype(np.uint64)
    return mix_bits(hashed + np.uint64(0x9E3779B97F4A7C15))


def event_order(user: np.ndarray, item: np.ndarray, timestamp: np.ndarray, seed: int) -> np.ndarray:
    """Return the row order of events, int64 [events]: by user, then timestamp, then tie hash; equal events by row.

    Only events that share user and second are hashed, which saves most of the work.
    """
    order = _by_user_and_time(user, timestamp)
    tied = tied_with_previous(user[order], timestamp[order])
    in_tie = tied.copy()
    in_tie[:-1] |= tied[1:]
    rows = np.flatnonzero(in_tie)
    if len(rows):
        tied_rows = order[rows]
        group = np.cumsum(~tied[rows])
        hashed = tie_hash(user[tied_rows], item[tied_rows], seed)
        order[rows] = tied_rows[np.lexsort((tied_rows, item[tied_rows], hashed, group))]
    return order


def _by_user_and_time(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Return the order by user, then timestamp; sorted as one number where both fit, which is much faster."""
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    first, span = int(timestamp.min()), int(timestamp.max()) - int(timestamp.min()) + 1
    if (int(user.max()) + 1) * span >= 2**63:
        return np.lexsort((timestamp, user))
    return np.argsort(user.astype(np.int64) * span + (timestamp - first))


def tied_with_previous(user: np.ndarray, timestamp: np.ndarray) -> np.ndarray:
    """Return which ordered events share user and second with the previous event, bool [events]."""
    tied = np.zeros(len(user), dtype=bool)
    tied[1:] = (user[1:] == user[:-1]) & (timestamp[1:] == timestamp[:-1])
    return tied


def repeats_previous_item(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return which ordered events have the item of the user's previous event, bool [events]."""
    repeated = np.zeros(len(user), dtype=bool)
    repeated[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    return repeated


def repeats_earlier_item(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return which ordered events have an item of any earlier event of the user, bool [events]."""
    repeated = np.zeros(len(user), dtype=bool)
    order = np.lexsort((item, user)).astype(np.int64, copy=False)
    same = (item[order[1:]] == item[order[:-1]]) & (user[order[1:]] == user[order[:-1]])
    repeated[order[1:][same]] = True
    return repeated


def repeat_rate(user: np.ndarray, item: np.ndarray) -> float:
    """Return the share of events whose item occurs in an earlier event of the user."""
    if not len(user):
        return 0.0
    pair = user.astype(np.int64) * (int(item.max()) + 1) + item
    pair.sort()
    return float((pair[1:] == pair[:-1]).sum()) / len(pair)


def dropped_repeats(user: np.ndarray, item: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Return which ordered events the param `ingest.repeats` drops, bool [events]."""
    if repeats == "first":
        return repeats_earlier_item(user, item)
    if repeats == "drop_consecutive":
        return repeats_previous_item(user, item)
    return np.zeros(len(user), dtype=bool)


class KCore(NamedTuple):
    """The events of the core, and the number of rounds."""

    keep: np.ndarray  # bool [events]
    rounds: int


def k_core(user: np.ndarray, item: np.ndarray, min_user: int, min_item: int) -> KCore:
    """Return the largest set of events in which every user and every item has enough events.

    Each round counts the remaining events and removes users and items below the minimum. The result does not depend
    on the order of removals.

    Args:
        user: int [events], dense codes.
        item: int [events], dense codes.
        min_user: least number of events of a user.
        min_item: least number of events of an item.
    """
    rows = np.arange(len(user), dtype=np.int64)
    users, items, rounds = user, item, 0
    while len(rows):
        user_stays = np.bincount(users, minlength=1) >= min_user
        item_stays = np.bincount(items, minlength=1) >= min_item
        remaining = user_stays[users] & item_stays[items]
        if remaining.all():
            break
        rounds += 1
        rows, users, items = rows[remaining], users[remaining], items[remaining]
    keep = np.zeros(len(user), dtype=bool)
    keep[rows] = True
    return KCore(keep, rounds)
