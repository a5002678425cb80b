"""The catalogue: every item with its text; core items come first and are the candidates."""

import polars as pl
import pyarrow as pa

from sidflow.contracts.errors import InputError
from sidflow.contracts.tables import Table, dense_ids


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
