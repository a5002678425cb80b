"""Descriptions of each item by view: of its text, its picture, or both."""

import pyarrow as pa

from sidflow.contracts.tables import Table

TEXT, IMAGE, JOINT = "text", "image", "joint"

SEMANTICS = Table(
    name="semantics",
    version=1,
    path="artifacts/semantics/semantics.parquet",
    columns={
        "item_id": pa.int32(),
        "view": pa.string(),  # text | image | joint; an item without the text or picture has no row
        "text": pa.string(),
        "writer": pa.string(),  # `rules`, or the model's name and revision
        "by_mllm": pa.bool_(),  # false for `rules`: written without a language model
    },
    key=("item_id", "view"),
)
