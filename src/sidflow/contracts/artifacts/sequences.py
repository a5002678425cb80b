"""One row per user: the ordered items, and how many of them are for training."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense_ids

SEQUENCES = Table(
    name="sequences",
    version=1,
    path="artifacts/split/sequences.parquet",
    columns={
        "user_id": pa.int32(),
        "items": pa.list_(pa.int32()),  # all of the user's, held-out ones included
        "timestamps": pa.list_(pa.int64()),
        "train_end": pa.int32(),  # items[:train_end] is the training part
    },
    key=("user_id",),
    checks=(dense_ids("user_id"),),
)
