"""One row per user: the ordered items, and how many of them models may train on."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense

SEQUENCES = Table(
    name="sequences",
    version=1,
    path="artifacts/split/sequences.parquet",
    columns={
        "user_id": pa.int32(),
        "items": pa.list_(pa.int32()),  # all of them, held-out ones included
        "timestamps": pa.list_(pa.int64()),
        "train_end": pa.int32(),  # items[:train_end] is the training part
    },
    key=("user_id",),
    checks=(dense("user_id"),),
)
