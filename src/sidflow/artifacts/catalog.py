"""The catalogue: interactions, items, users, pictures, and the synthetic generator's probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from sidflow.core.errors import InputError
from sidflow.core.tables import Table, Vector, dense_ids

INTERACTIONS = Table(
    name="interactions",
    version=1,
    path="artifacts/catalog/interactions.parquet",
    columns={
        "user_id": pa.int32(),
        "position": pa.int32(),  # 0, 1, 2, ... within the user: by timestamp, ties by hash
        "item_id": pa.int32(),
        # seconds UTC; without a clock the rank among the user's events, equal where the source has no order of them
        "timestamp": pa.int64(),
        # train | valid | test: where the source has this event as a target; null: nowhere. Several with blanks between
        "part": pa.string(),
    },
    key=("user_id", "position"),
    optional=frozenset({"part"}),  # of sources that bring their split along
    nullable=frozenset({"part"}),
)


CLOCK = "timestamps_known"  # an entry of the footer of `interactions`


def clock_footer(interactions: pl.DataFrame, *, has_clock: bool) -> dict[str, bool]:
    """Return what the footer of `interactions` says of the clock: nothing where the timestamps say it themselves."""
    return {} if has_clock == _timestamps_differ_from_positions(interactions) else {CLOCK: has_clock}


def has_clock(interactions: pl.DataFrame, footer: Mapping[str, object]) -> bool:
    """Return whether timestamps are times: as the footer says, or where it does not, if they are not the positions."""
    return bool(footer.get(CLOCK, _timestamps_differ_from_positions(interactions)))


def _timestamps_differ_from_positions(interactions: pl.DataFrame) -> bool:
    return not (interactions["timestamp"] == interactions["position"]).all()


def _core_first(frame: pl.DataFrame, path: str) -> None:
    core = frame["in_core"].to_numpy()
    if core[int(core.sum()) :].any():
        raise InputError(
            path, expected="core items before all others", found="another order", remedy="rerun `dvc repro ingest`"
        )


ITEMS = Table(
    name="items",
    version=1,
    path="artifacts/catalog/items.parquet",
    columns={
        "item_id": pa.int32(),
        "item_key": pa.string(),  # the source's name of the item
        "title": pa.string(),  # empty where the source has none, here and below
        "description": pa.string(),
        "brand": pa.string(),
        "categories": pa.list_(pa.string()),  # most general first, where the source orders them
        "attributes": pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())])),  # sorted by name
        "in_core": pa.bool_(),  # in the k-core: a candidate of every ranking
    },
    key=("item_id",),
    checks=(dense_ids("item_id"), _core_first),
)


def core_count() -> int:
    """Return the number of core items; their ids are 0 to that number, and they are the candidates."""
    return int(ITEMS.read(columns=["in_core"])["in_core"].sum())


def item_count() -> int:
    """Return the number of catalogue items, in the core or not."""
    return ITEMS.read(columns=["in_core"]).height


USERS = Table(
    name="users",
    version=1,
    path="artifacts/catalog/users.parquet",
    columns={"user_id": pa.int32(), "user_key": pa.string()},
    key=("user_id",),
    checks=(dense_ids("user_id"),),
)


IMAGES = Table(
    name="images",
    version=1,
    path="artifacts/catalog/images.parquet",
    columns={
        "item_id": pa.int32(),
        "picture": pa.binary(),  # JPEG, RGB
        "width": pa.int32(),  # pixels, as is the height
        "height": pa.int32(),
    },
    key=("item_id",),
)


ITEM_TRUTH = Table(  # what is true of each item of the synthetic catalogue, whatever its text says; empty elsewhere
    name="item_truth",
    version=1,
    path="artifacts/catalog/item_truth.parquet",
    columns={
        "item_id": pa.int32(),
        "category": pa.string(),
        "style": pa.string(),  # the stronger one
        "colour": pa.string(),
        "pattern": pa.string(),  # of the picture; empty where there is none
    },
    key=("item_id",),
)


TRUTH = Table(
    name="truth",
    version=1,
    path="artifacts/catalog/truth.parquet",
    columns={
        "user_id": pa.int32(),
        "position": pa.int32(),  # of the event that these probabilities predict, as in interactions
        "probabilities": Vector(pa.float32()),  # [core items], zero for items of the history, sum 1
    },
    key=("user_id", "position"),
)
