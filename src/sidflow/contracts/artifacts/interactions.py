"""Interactions of the k-core, in each user's order."""

import pyarrow as pa

from sidflow.contracts.tables import Table

INTERACTIONS = Table(
    name="interactions",
    version=1,
    path="artifacts/catalog/interactions.parquet",
    columns={
        "user_id": pa.int32(),
        "position": pa.int32(),  # 0, 1, 2, ... within the user: by timestamp, ties by hash
        "item_id": pa.int32(),
        "timestamp": pa.int64(),  # seconds UTC; the position where the source has no timestamps
    },
    key=("user_id", "position"),
)
