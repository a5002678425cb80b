"""Targets: the held-out item of every query."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense_ids

TARGETS = Table(
    name="targets",
    version=1,
    path="artifacts/split/targets.parquet",
    columns={
        "query_id": pa.int32(),
        "item_id": pa.int32(),
        "tied": pa.bool_(),  # shares its second with the event before, so that a hash decides their order
    },
    key=("query_id",),
    checks=(dense_ids("query_id"),),
)
