"""From `ingest.path` to the catalogue: source, order, repeats, k-core, ids, pictures, truth, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.catalog import ITEM_TRUTH, TRUTH
from sidflow.catalog.core_events import CoreEvents, select_core_events
from sidflow.catalog.events import tied_with_previous
from sidflow.catalog.joins import (
    check_pictures_meet,
    check_texts_meet,
    check_texts_say_something,
    fullest_rows,
    has_text,
)
from sidflow.catalog.order import Ascent, OrderedEvents, check_order, item_ranks, measure_order, order_figures
from sidflow.catalog.params import IngestParams
from sidflow.catalog.pictures import pack_pictures
from sidflow.catalog.raw import RawCatalog, Truth
from sidflow.catalog.sources.amazon import read_amazon
from sidflow.catalog.sources.minionerec import read_minionerec
from sidflow.catalog.sources.movielens import read_movielens
from sidflow.catalog.sources.recbole import read_recbole
from sidflow.catalog.sources.sequences import read_sequences
from sidflow.catalog.sources.synthetic import read_synthetic
from sidflow.catalog.sources.tabular import read_tables
from sidflow.core.errors import InputError

SOURCES = {
    "synthetic": read_synthetic,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "sequences": read_sequences,
    "minionerec": read_minionerec,
    "recbole": read_recbole,
    "files": read_tables,
}


class Catalog(NamedTuple):
    """The artifacts of `ingest`."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    images: pl.DataFrame
    truth: pl.DataFrame
    item_truth: pl.DataFrame
    report: dict[str, int | float | str]
    dropped: dict[str, int]  # what was left out or repaired, by kind; in the report as well
    warnings: list[str]

    def summary(self) -> str:
        """Return one line: what is in the catalogue, what was left out or repaired."""
        line = "{users} of {users_raw} users, {items_core} items ({items} in the catalogue), "
        line += "{interactions} of {interactions_raw} interactions"
        dropped = ", ".join(f"{name} {count}" for name, count in sorted(self.dropped.items()) if count)
        return line.format(**self.report) + (f"; left out or repaired: {dropped}" if dropped else "")


def ingest(params: IngestParams) -> Catalog:
    """Return the catalogue of the source that params name.

    Raises:
        InputError: the data is absent or not in the source's format.
    """
    return build_catalog(read_source(params), params)


def read_source(params: IngestParams) -> RawCatalog:
    """Return the raw content of the source that params name.

    Raises:
        InputError: `ingest.path` does not exist, or is not in the source's format.
    """
    path = Path(params.path)
    if not path.exists():
        raise InputError(
            "params.yaml:ingest.path",
            expected=f"a file or folder for the source `{params.source}`",
            found=f"nothing at {path}",
            remedy="`sidflow preset apply NAME --data FOLDER`, or set ingest.path",
        )
    return SOURCES[params.source](path, params)


def build_catalog(raw: RawCatalog, params: IngestParams) -> Catalog:
    """Return the catalogue of a source's raw content.

    Raises:
        InputError: no events are left, sequences without a clock are sorted, or no item of the events has one of the
            source's texts or pictures.
    """
    texts = fullest_rows(raw.items)
    events = select_core_events(raw.events, texts.items["item_key"], params)
    ascents = _measure_order(raw, events)
    warnings = check_order(ascents, params.path, clock=raw.has_timestamps, sorted_sequences=params.sorted_sequences)
    items = _items(texts.items, events)
    if texts.items.height:
        unmet = check_texts_meet(events.item_keys[: events.core_items], set(texts.items["item_key"]))
        warnings += unmet or check_texts_say_something(items)
    unused_pictures = check_pictures_meet(events.item_keys, raw.pictures)
    packed = pack_pictures(events.item_keys, raw.pictures, params.pictures)
    truth = _truth(raw.truth, events) if raw.truth else TRUTH.empty(width=events.core_items)
    item_truth = _item_truth(raw.item_truth, events.item_keys)
    core_items_with_text = items.filter(pl.col("in_core") & has_text()).height
    dropped = dict(raw.dropped) | {
        "repeats_dropped": int(events.report["repeats_dropped"]),
        "items_duplicate_rows": texts.duplicates,
        "pictures_broken": packed.problems["broken"],
        "pictures_too_large": packed.problems["too_large"],
        "pictures_of_no_item": unused_pictures,
    }
    report = dict(events.report) | dropped | order_figures(ascents)
    report |= {
        "timestamps_known": int(raw.has_timestamps),
        "core_items_with_text": core_items_with_text,
        "core_text_share": core_items_with_text / events.core_items,
        "items_with_picture": len(packed.rows),
        "core_items_with_picture": sum(item < events.core_items for item in packed.item_ids()),
        "pictures_missing": packed.problems["missing"],
        "pictures_refused_example": packed.example,
        "truth_rows": truth.height,
    }
    interactions = pl.DataFrame(
        {
            "user_id": events.user,
            "position": events.position,
            "item_id": events.item,
            "timestamp": events.timestamp if raw.has_timestamps else _ranks(events),
        }
    )
    if "part" in raw.events.columns:
        interactions = interactions.with_columns(part=raw.events["part"].gather(events.row))
        figures, unpublished = _published_targets(raw.events["part"], interactions["part"])
        report |= figures
        warnings += unpublished
    users = pl.DataFrame(
        {"user_id": np.arange(len(events.user_keys), dtype=np.int32), "user_key": events.user_keys},
        schema_overrides={"user_key": pl.String},
    )
    return Catalog(interactions, items, users, packed.frame(), truth, item_truth, report, dropped, warnings)


def _published_targets(published: pl.Series, kept: pl.Series) -> tuple[dict[str, int], list[str]]:
    """Return how many published targets there are and are left out, and a warning where any is.

    Args:
        published: the part that each event of the source is a target of; null where it is none.
        kept: the same of the events in the catalogue.
    """
    targets, left_out = published.count(), published.count() - kept.count()
    figures = {"published_targets": targets, "published_targets_left_out": left_out}
    if not left_out:
        return figures, []
    return figures, [
        f"{left_out} of the {targets} published targets are not in the catalogue, so that "
        "`split.method: published` is not the published split: set ingest.min_user_events: 1, "
        "ingest.min_item_events: 1 and ingest.repeats: keep"
    ]


def _measure_order(raw: RawCatalog, events: CoreEvents) -> list[Ascent]:
    tied = tied_with_previous(events.user, events.timestamp)
    core_keys = events.item_keys[: events.core_items]
    ranks = item_ranks(core_keys, raw.items["item_key"], events.item_counts)
    return measure_order(OrderedEvents(events.user, events.item, events.row, tied), ranks)


def _ranks(events: CoreEvents) -> np.ndarray:
    """Return the rank of each event's timestamp among the user's, int64 [events], from 0; equal where they are."""
    ranks = np.cumsum(~tied_with_previous(events.user, events.timestamp))
    return ranks - np.repeat(ranks[events.position == 0], np.bincount(events.user))


def _items(texts: pl.DataFrame, events: CoreEvents) -> pl.DataFrame:
    """Return the table `items`, empty text where the source has none; `texts` has one row per key."""
    n = len(events.item_keys)
    ids = pl.DataFrame(
        {
            "item_id": np.arange(n, dtype=np.int32),
            "item_key": events.item_keys,
            "in_core": np.arange(n) < events.core_items,
        }
    )
    joined = ids.join(texts, on="item_key", how="left", maintain_order="left")
    return joined.with_columns(
        pl.col("title", "description", "brand").fill_null(""),
        pl.col("categories").fill_null(pl.lit([], dtype=pl.List(pl.String))),
        pl.col("attributes").fill_null(pl.lit([], dtype=texts.schema["attributes"])),
    )


def _item_truth(truth: Mapping[str, Mapping[str, str]], item_keys: Sequence[str]) -> pl.DataFrame:
    """Return the table `item_truth`, without rows where the source knows nothing of the kind."""
    if not truth:
        return ITEM_TRUTH.empty()
    rows = [truth[key] for key in item_keys]
    columns = {name: [row[name] for row in rows] for name in ("category", "style", "colour", "pattern")}
    return pl.DataFrame({"item_id": np.arange(len(rows), dtype=np.int32), **columns})


def _truth(truth: Truth, events: CoreEvents) -> pl.DataFrame:
    """Return the generator's probabilities of each user's last events, over the core items, sum 1."""
    lengths = np.bincount(events.user)
    rows = np.flatnonzero(events.position >= lengths[events.user] - truth.positions)
    column_of = {key: column for column, key in enumerate(truth.item_keys)}
    columns = [column_of[key] for key in events.item_keys[: events.core_items]]
    probabilities = truth.probabilities_of(
        [events.user_keys[user] for user in events.user[rows]],
        [events.item_keys[item] for item in events.item[rows]],
    )[:, columns]
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    return pl.DataFrame(
        {
            "user_id": events.user[rows],
            "position": events.position[rows],
            "probabilities": pl.Series(probabilities, dtype=pl.Array(pl.Float32, len(columns))),
        }
    )
