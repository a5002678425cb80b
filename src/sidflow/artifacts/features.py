"""Item semantics, embeddings, and the modalities made of them."""

from __future__ import annotations

import pyarrow as pa

from sidflow.core.documents import Document
from sidflow.core.tables import Table
from sidflow.core.tensors import TensorFile

TEXT, IMAGE, JOINT, KEYWORDS = "text", "image", "joint", "keywords"  # views; the first two are modalities too

SEMANTICS = Table(
    name="semantics",
    version=1,
    path="artifacts/semantics/semantics.parquet",
    columns={
        "item_id": pa.int32(),
        "view": pa.string(),  # text | image | joint | keywords; an item without the text or picture has no row
        "text": pa.string(),
        "writer": pa.string(),  # `rules`, or MODEL@REVISION
        "by_mllm": pa.bool_(),  # false for `rules`: written without a language model
    },
    key=("item_id", "view"),
)


DESCRIBE_REPORT = Document("artifacts/reports/describe.json", flat=True)


EMBEDDING = TensorFile(
    name="embedding",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},  # absent rows are zero
)

UNITS = TensorFile(  # fine-grained text embeddings: up to u units of each item
    name="units",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n u d", "present": "bool n u"},
)

MODALITY = TensorFile(  # normalised rows; the names are those of params' `modality`
    name="modality",
    version=1,
    path="artifacts/modalities/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)

ITEM_TABLE = TensorFile(  # item embeddings of a recommender; absent where it has none
    name="embedding",
    version=1,
    path="artifacts/recommenders/{model}/items.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)
