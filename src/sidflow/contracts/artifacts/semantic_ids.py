"""The semantic ID of every item in every modality that it has."""

import pyarrow as pa

from sidflow.contracts.documents import Document
from sidflow.contracts.tables import Table, Vector

SEMANTIC_IDS = Table(
    name="semantic_ids",
    version=1,
    path="artifacts/semantic_ids/semantic_ids.parquet",
    columns={
        "item_id": pa.int32(),
        "modality": pa.string(),
        "codes": Vector(pa.int32()),  # [levels], coarse first
        "suffix": pa.int32(),  # 0 for the first item with these codes, then 1, 2, ...
    },
    key=("item_id", "modality"),
)

SEMANTIC_ID_AUDIT = Document("artifacts/reports/semantic_ids.json", flat=True)
