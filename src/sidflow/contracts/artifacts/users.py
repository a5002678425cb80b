"""The users of the core, and what the outside world calls them."""

import pyarrow as pa

from sidflow.contracts.tables import Table, dense

USERS = Table(
    name="users",
    version=1,
    path="artifacts/catalog/users.parquet",
    columns={"user_id": pa.int32(), "user_key": pa.string()},
    key=("user_id",),
    checks=(dense("user_id"),),
)
