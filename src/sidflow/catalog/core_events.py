"""The events of the k-core: ordered, without dropped repeats, with dense ids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog.events import (
    dropped_repeats,
    encode_keys,
    event_order,
    k_core,
    repeat_rate,
    repeats_previous_item,
    sort_keys,
    tied_with_previous,
)
from sidflow.catalog.params import IngestParams
from sidflow.core.errors import InputError


class ReducedEvents(NamedTuple):
    """The ordered events of the k-core, numbered as in the source, and what was left out on the way."""

    user: np.ndarray  # int32 [events]
    item: np.ndarray  # int32 [events]
    timestamp: np.ndarray  # int64 [events]
    row: np.ndarray  # int [events], in the source
    repeat_rate: float  # of all events
    consecutive_repeat_rate: float
    repeats_dropped: int
    rounds: int  # of the k-core


class CoreEvents(NamedTuple):
    """The ordered events of the k-core with dense ids."""

    user: np.ndarray  # int32 [events]
    position: np.ndarray  # int32 [events]
    item: np.ndarray  # int32 [events]
    timestamp: np.ndarray  # int64 [events]
    row: np.ndarray  # int32 [events], in the source
    user_keys: list[str]  # of the core, in key order
    item_keys: list[str]  # the core's in key order, then all other items in key order
    core_items: int
    item_counts: np.ndarray  # int64 [core items], events in the source
    report: dict[str, int | float | str]


def select_core_events(raw: pl.DataFrame, described_items: pl.Series, params: IngestParams) -> CoreEvents:
    """Return the core's events: ordered, without dropped repeats, filtered to the k-core, with dense ids.

    Repeats are dropped before the core is computed, so that its thresholds count the remaining events. Removing an
    item can make two equal items consecutive; with `drop_consecutive` both steps repeat until nothing changes.

    Args:
        raw: columns `user`, `item` and `timestamp`.
        described_items: keys of the items that the source has text for, with or without events.
        params: the section `ingest`.

    Raises:
        InputError: there are no events, or the core is empty.
    """
    users = encode_keys(raw["user"])
    item_order = sort_keys(pl.concat([raw["item"].unique().cast(pl.String), described_items]))
    items = encode_keys(raw["item"], item_order)
    timestamps = raw["timestamp"].to_numpy()
    event_counts = np.bincount(items.codes, minlength=len(items.keys))
    report: dict[str, int | float | str] = {
        "users_raw": len(users.keys),
        "items_raw": int((event_counts > 0).sum()),
        "interactions_raw": len(timestamps),
    }
    core = _reduce_to_core(users.codes, items.codes, timestamps, params)
    user, item = core.user, core.item
    report |= {"repeat_rate_raw": core.repeat_rate, "consecutive_repeat_rate_raw": core.consecutive_repeat_rate}
    user_id, user_keys = _dense_ids(user, users.keys)
    item_id, core_keys = _dense_ids(item, items.keys)
    outside_masks = {"all": np.ones_like(event_counts, dtype=bool), "seen": event_counts > 0}
    outside = outside_masks.get(params.outside_core, np.zeros_like(event_counts, dtype=bool))
    outside[np.bincount(item, minlength=len(outside)) > 0] = False
    report |= {
        "users": len(user_keys),
        "items": len(core_keys) + int(outside.sum()),
        "items_core": len(core_keys),
        "items_outside_core": int(outside.sum()),
        "interactions": len(user),
        "repeats_dropped": core.repeats_dropped,
        "core_rounds": core.rounds,
        "density": len(user) / (len(user_keys) * len(core_keys)),
        "mean_length": len(user) / len(user_keys),
        "tie_rate": _share(tied_with_previous(user, core.timestamp)),
    }
    starts = np.flatnonzero(np.diff(user_id, prepend=-1))
    position = np.arange(len(user_id)) - np.repeat(starts, np.diff(starts, append=len(user_id)))
    outside_keys = [items.keys[row] for row in np.flatnonzero(outside)]
    return CoreEvents(
        user_id,
        position.astype(np.int32),
        item_id,
        core.timestamp,
        core.row,
        user_keys,
        core_keys + outside_keys,
        len(core_keys),
        event_counts[np.unique(item)],
        report,
    )


def _reduce_to_core(
    users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, params: IngestParams
) -> ReducedEvents:
    """Return the events of the k-core in their order, without dropped repeats.

    Raises:
        InputError: none are left.
    """
    rows = event_order(users, items, timestamps, params.tie_seed)
    user, item, timestamp = users[rows], items[rows], timestamps[rows]
    row = rows.astype(np.int32 if len(rows) < 2**31 else np.int64)
    del rows
    rate, consecutive_rate = repeat_rate(user, item), _share(repeats_previous_item(user, item))
    dropped, rounds = 0, 0
    while True:
        repeated = dropped_repeats(user, item, params.repeats)
        dropped += int(repeated.sum())
        if repeated.any():
            user, item, timestamp, row = user[~repeated], item[~repeated], timestamp[~repeated], row[~repeated]
        core = k_core(user, item, params.min_user_events, params.min_item_events)
        rounds += core.rounds
        if not core.rounds:
            break
        user, item, timestamp, row = user[core.keep], item[core.keep], timestamp[core.keep], row[core.keep]
    if not len(user):
        raise InputError(
            "ingest",
            expected=f"users with {params.min_user_events} and items with {params.min_item_events} events",
            found=f"none among {len(users)} events",
            remedy="lower ingest.min_user_events and ingest.min_item_events, or give more data",
        )
    return ReducedEvents(user, item, timestamp, row, rate, consecutive_rate, dropped, rounds)


def _share(mask: np.ndarray) -> float:
    return float(mask.mean()) if len(mask) else 0.0


def _dense_ids(codes: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the codes renumbered without gaps, in the same order, and the keys that occur."""
    present = np.bincount(codes, minlength=len(names)) > 0
    dense = (np.cumsum(present) - 1).astype(np.int32)
    return dense[codes], [names[row] for row in np.flatnonzero(present)]
