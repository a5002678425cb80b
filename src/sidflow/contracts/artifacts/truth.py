"""Next-item probabilities of the synthetic generator; empty for any other source."""

import pyarrow as pa

from sidflow.contracts.tables import Table, Vector

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
