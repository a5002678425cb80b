"""What was written about each item, seen through its text, its picture, or both."""

import pyarrow as pa

from sidflow.contracts.tables import Table

TEXT, IMAGE, JOINT = "text", "image", "joint"

SEMANTICS = Table(
    name="semantics",
    version=1,
    path="artifacts/semantics/semantics.parquet",
    columns={
        "item_id": pa.int32(),
        "view": pa.string(),  # text | image | joint; a missing text or picture gives no row, never an invented one
        "text": pa.string(),
        "writer": pa.string(),  # `rules`, or the model's name and revision
        "by_mllm": pa.bool_(),  # false for `rules`: no language model saw the item
    },
    key=("item_id", "view"),
)
