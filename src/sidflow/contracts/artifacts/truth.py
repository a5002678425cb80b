"""The generator's own next-item probabilities; no rows unless the catalogue is synthetic."""

import pyarrow as pa

from sidflow.contracts.tables import Table, Vector

TRUTH = Table(
    name="truth",
    version=1,
    path="artifacts/catalog/truth.parquet",
    columns={
        "user_id": pa.int32(),
        "position": pa.int32(),  # of the event that these probabilities foretell, as in interactions
        "probabilities": Vector(pa.float32()),  # [core items], zero for what stands in the history, sum 1
    },
    key=("user_id", "position"),
)
