"""Item semantics, embeddings, and the modalities made of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from sidflow.core.documents import Document
from sidflow.core.tables import Table
from sidflow.core.tensors import TensorFile, schema_of

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

EMBED_REPORT = Document("artifacts/reports/embed.json")  # the audit: encoders, agreement, gallery


EMBEDDING = TensorFile(
    name="embedding",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32|float16 n d", "present": "bool n"},  # absent rows are zero
)

SPARSE_EMBEDDING = TensorFile(  # the same as CSR [n, width], `width` in the metadata: vectors as wide as a vocabulary
    name="sparse_embedding",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={
        "indptr": "int64 n_plus_1",
        "indices": "int32 nonzero",
        "values": "float32|float16 nonzero",
        "present": "bool n",
    },
)

UNITS = TensorFile(  # fine-grained text embeddings: up to u units of each item
    name="units",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32|float16 n u d", "present": "bool n u"},
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

CONTENT_TABLE = TensorFile(  # what content alone brings to a recommender's item vectors; absent where none does
    name="embedding",
    version=1,
    path="artifacts/recommenders/{model}/content.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},  # present: has content, with training events or without
)


class ItemRows(NamedTuple):
    """One row per item, dense or sparse, or several."""

    values: np.ndarray | csr_matrix  # float32 [n, d], or [n, u, d] of units; absent rows are zero
    present: np.ndarray  # bool [n], or [n, u]


def sparse_arrays(values: csr_matrix, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of a SPARSE_EMBEDDING."""
    values = csr_matrix(values)
    values.sum_duplicates()  # also sorts, so that the bytes are those of the content
    return {
        "indptr": values.indptr.astype(np.int64),
        "indices": values.indices.astype(np.int32),
        "values": values.data.astype(np.float32),
        "present": present,
    }


def read_item_rows(path: Path) -> ItemRows:
    """Return the rows of an embedding, dense, sparse or of units, or of a modality.

    Raises:
        InputError: the file is absent, broken, or holds something else.
    """
    kinds = {kind.name: kind for kind in (SPARSE_EMBEDDING, UNITS, MODALITY)}
    kind = kinds.get(schema_of(path), EMBEDDING)
    arrays, metadata = kind.read_from(path)
    values = arrays["values"]
    if kind is SPARSE_EMBEDDING:
        shape = (len(arrays["present"]), int(str(metadata["width"])))
        values = csr_matrix((values, arrays["indices"], arrays["indptr"]), shape=shape)
    return ItemRows(values, arrays["present"])
