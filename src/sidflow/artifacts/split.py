"""Sequences, queries and targets."""

from __future__ import annotations

import pyarrow as pa

from sidflow.core.tables import Table, dense_ids

SEQUENCES = Table(
    name="sequences",
    version=1,
    path="artifacts/split/sequences.parquet",
    columns={
        "user_id": pa.int32(),
        "items": pa.list_(pa.int32()),  # all of the user's, held-out ones included
        "timestamps": pa.list_(pa.int64()),
        "train_end": pa.int32(),  # items[:train_end] is the training part
        "test_start": pa.int32(),  # items[test_start:] is the test part, where some of it is too early to be a target
    },
    key=("user_id",),
    optional=frozenset({"test_start"}),
    checks=(dense_ids("user_id"),),
)


TRAIN, VALID, TEST = "train", "valid", "test"

QUERIES = Table(
    name="queries",
    version=1,
    path="artifacts/split/queries.parquet",
    columns={
        "query_id": pa.int32(),
        "user_id": pa.int32(),
        "part": pa.string(),  # valid | test
        "history_end": pa.int32(),  # the history is the user's items[:history_end]
        "position": pa.int32(),  # where items are held out: of the target, in `interactions`
    },
    key=("query_id",),
    optional=frozenset({"position"}),
    checks=(dense_ids("query_id"),),
)


TARGETS = Table(
    name="targets",
    version=1,
    path="artifacts/split/targets.parquet",
    columns={
        "query_id": pa.int32(),
        "item_id": pa.int32(),
        "tied": pa.bool_(),  # shares its timestamp with the event before or after, so that a hash decides their order
    },
    key=("query_id",),
    checks=(dense_ids("query_id"),),
)
