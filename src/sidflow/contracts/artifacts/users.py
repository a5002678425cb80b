"""The users of the k-core with their keys in the source."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense_ids

USERS = Table(
    name="users",
    version=1,
    path="artifacts/catalog/users.parquet",
    columns={"user_id": pa.int32(), "user_key": pa.string()},
    key=("user_id",),
    checks=(dense_ids("user_id"),),
)
