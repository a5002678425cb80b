"""From a `RawCatalog` to the artifacts of `ingest`: order, repeats, k-core, ids, pictures, truth, and a report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.catalog import keys, order, pictures
from sidflow.catalog.core import k_core
from sidflow.catalog.params import IngestParams
from sidflow.catalog.raw import RawCatalog, Truth
from sidflow.contracts.artifacts.truth import TRUTH
from sidflow.contracts.errors import InputError


class Events(NamedTuple):
    """The events of the core, ordered, with dense ids."""

    user: np.ndarray  # int32 [events]
    position: np.ndarray  # int32 [events]
    item: np.ndarray  # int32 [events]
    timestamp: np.ndarray  # int64 [events]
    user_keys: list[str]  # of the core, in key order
    item_keys: list[str]  # the core's in key order, then all others in key order
    core_items: int
    report: dict[str, int | float | str]


class Catalog(NamedTuple):
    """The artifacts of `ingest`."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    images: pl.DataFrame
    truth: pl.DataFrame
    report: dict[str, int | float | str]


def build(raw: RawCatalog, params: IngestParams) -> Catalog:
    """Make the catalogue of what a source has read.

    Raises:
        InputError: no events are left, or an item's words come twice.
    """
    events = order_and_filter(raw.events, raw.items["item_key"], params)
    items = _items(raw.items, events)
    packed = pictures.pack(events.item_keys, raw.pictures, params.pictures)
    truth = _truth(raw.truth, events) if raw.truth else TRUTH.empty(width=events.core_items)
    report = dict(events.report) | dict(raw.notes)
    report |= {
        "timestamps_known": int(raw.clock),
        "tie_rate": report["tie_rate"] if raw.clock else 0.0,
        "items_with_text": items.filter((pl.col("title") != "") | (pl.col("description") != "")).height,
        "items_with_picture": len(packed.rows),
        "core_items_with_picture": sum(item < events.core_items for item in packed.items()),
        "pictures_missing": packed.problems["missing"],
        "pictures_broken": packed.problems["broken"],
        "pictures_too_large": packed.problems["too_large"],
        "pictures_refused_example": packed.example,
        "truth_rows": truth.height,
    }
    interactions = pl.DataFrame(
        {
            "user_id": events.user,
            "position": events.position,
            "item_id": events.item,
            "timestamp": events.timestamp if raw.clock else events.position.astype(np.int64),
        }
    )
    users = pl.DataFrame(
        {"user_id": np.arange(len(events.user_keys), dtype=np.int32), "user_key": events.user_keys},
        schema_overrides={"user_key": pl.String},
    )
    return Catalog(interactions, items, users, packed.frame(), truth, report)


def order_and_filter(raw: pl.DataFrame, known_items: pl.Series, params: IngestParams) -> Events:
    """Order the events, treat repeats, cut the core, and give dense ids.

    Repeats go before the core is cut, so that its thresholds count what stays; where dropping an item's events makes
    two others neighbours, `drop_consecutive` looks again, until nothing changes.

    Raises:
        InputError: there are no events, or the core is empty.
    """
    users = keys.code(raw["user"])
    item_order = keys.sort_keys(pl.concat([raw["item"].unique().cast(pl.String), known_items]))
    items = keys.code(raw["item"], item_order)
    seconds = raw["timestamp"].to_numpy()
    had_events = np.bincount(items.codes, minlength=len(items.keys))
    report: dict[str, int | float | str] = {
        "users_raw": len(users.keys),
        "items_raw": int((had_events > 0).sum()),
        "interactions_raw": len(seconds),
    }
    rows = order.arrange(users.codes, items.codes, seconds, params.tie_seed)
    user, item, second = users.codes[rows], items.codes[rows], seconds[rows]
    del rows, seconds
    report["repeat_rate_raw"] = order.repeat_rate(user, item)
    report["consecutive_repeat_rate_raw"] = _rate(order.repeats_last(user, item))
    dropped, rounds = 0, 0
    while True:
        again = order.unwanted(user, item, params.repeats)
        dropped += int(again.sum())
        if again.any():
            user, item, second = user[~again], item[~again], second[~again]
        core = k_core(user, item, params.min_user_events, params.min_item_events)
        rounds += core.rounds
        if not core.rounds:
            break
        user, item, second = user[core.keep], item[core.keep], second[core.keep]
    if not len(user):
        raise InputError(
            "ingest",
            expected=f"users with {params.min_user_events} and items with {params.min_item_events} events",
            found=f"none among {report['interactions_raw']} events",
            remedy="lower ingest.min_user_events and ingest.min_item_events, or give more data",
        )
    user_id, user_keys = _dense(user, users.keys)
    item_id, core_keys = _dense(item, items.keys)
    rest = (had_events > 0) if params.outside_core == "seen" else np.full(len(items.keys), params.outside_core == "all")
    rest[np.bincount(item, minlength=len(rest)) > 0] = False
    report |= {
        "users": len(user_keys),
        "items": len(core_keys) + int(rest.sum()),
        "items_core": len(core_keys),
        "items_outside_core": int(rest.sum()),
        "interactions": len(user),
        "repeats_dropped": dropped,
        "core_rounds": rounds,
        "density": len(user) / (len(user_keys) * len(core_keys)),
        "mean_length": len(user) / len(user_keys),
        "tie_rate": _rate(order.same_second(user, second)),
    }
    starts = np.flatnonzero(np.diff(user_id, prepend=-1))
    position = np.arange(len(user_id)) - np.repeat(starts, np.diff(starts, append=len(user_id)))
    others = [items.keys[row] for row in np.flatnonzero(rest)]
    return Events(
        user_id, position.astype(np.int32), item_id, second, user_keys, core_keys + others, len(core_keys), report
    )


def _rate(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else 0.0


def _dense(codes: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return codes without gaps, in the same order, and the keys that are left."""
    present = np.bincount(codes, minlength=len(names)) > 0
    fresh = (np.cumsum(present) - 1).astype(np.int32)
    return fresh[codes], [names[row] for row in np.flatnonzero(present)]


def _items(words: pl.DataFrame, events: Events) -> pl.DataFrame:
    """Return the table `items`: one row per key, empty words where the source has none."""
    twice = words.filter(pl.col("item_key").is_duplicated())
    if twice.height:
        raise InputError(
            "ingest",
            expected="one row of words per item",
            found="several",
            count=twice["item_key"].n_unique(),
            example=twice["item_key"][0],
            remedy="keep one row per item in the item file",
        )
    n = len(events.item_keys)
    ids = pl.DataFrame(
        {
            "item_id": np.arange(n, dtype=np.int32),
            "item_key": events.item_keys,
            "in_core": np.arange(n) < events.core_items,
        }
    )
    joined = ids.join(words, on="item_key", how="left", maintain_order="left")
    return joined.with_columns(
        pl.col("title", "description", "brand").fill_null(""),
        pl.col("categories").fill_null(pl.lit([], dtype=pl.List(pl.String))),
        pl.col("attributes").fill_null(pl.lit([], dtype=words.schema["attributes"])),
    )


def _truth(truth: Truth, events: Events) -> pl.DataFrame:
    """Return the generator's probabilities of each user's last events, over the core items, sum 1."""
    lengths = np.bincount(events.user)
    rows = np.flatnonzero(events.position >= lengths[events.user] - truth.positions)
    at = {key: column for column, key in enumerate(truth.item_keys)}
    columns = [at[key] for key in events.item_keys[: events.core_items]]
    chance = truth.behind(
        [events.user_keys[user] for user in events.user[rows]],
        [events.item_keys[item] for item in events.item[rows]],
    )[:, columns]
    chance = (chance / chance.sum(axis=1, keepdims=True)).astype(np.float32)
    return pl.DataFrame(
        {
            "user_id": events.user[rows],
            "position": events.position[rows],
            "probabilities": pl.Series(chance, dtype=pl.Array(pl.Float32, len(columns))),
        }
    )
