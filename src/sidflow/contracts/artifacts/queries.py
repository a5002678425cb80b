"""Queries: the histories whose next item is predicted."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense_ids

VALID, TEST = "valid", "test"

QUERIES = Table(
    name="queries",
    version=1,
    path="artifacts/split/queries.parquet",
    columns={
        "query_id": pa.int32(),
        "user_id": pa.int32(),
        "part": pa.string(),  # valid | test
        "history_end": pa.int32(),  # the history is the user's items[:history_end]
    },
    key=("query_id",),
    checks=(dense_ids("query_id"),),
)
