"""Item semantics, embeddings, and the modalities made of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from sidflow.core.documents import Document
from sidflow.core.errors import InputError
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

MODALITY = TensorFile(  # normalised rows, and by what; the names are those of params' `modality`
    name="modality",
    version=2,
    path="artifacts/modalities/{name}.safetensors",
    arrays={
        "values": "float32 n d",
        "present": "bool n",
        "components.mean": "float64 width",
        "components.directions": "float64 width components",
        "components.variances": "float64 components",
        "whitening.mean": "float64 whitened",
        "whitening.directions": "float64 whitened d",
        "whitening.variances": "float64 d",
        "mean": "float64 d",
        "spread": "float64 spread",
    },
    optional=frozenset(
        [f"{part}.{array}" for part in ("components", "whitening") for array in ("mean", "directions", "variances")]
        + ["mean", "spread"]
    ),
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


Matrix = np.ndarray | csr_matrix
AnyMatrix = TypeVar("AnyMatrix", bound=Matrix)


class ItemRows(NamedTuple, Generic[AnyMatrix]):
    """One row per item, dense or sparse, or several."""

    values: AnyMatrix  # float32 [n, d], or [n, u, d] of units; absent rows are zero
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


def read_item_rows(path: Path) -> ItemRows[Matrix]:
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


def core_rows(rows: ItemRows[AnyMatrix], items: int, path: Path) -> ItemRows[AnyMatrix]:
    """Return the rows of the `items` core items, which come first in the file `path`.

    Raises:
        InputError: the file has fewer rows.
    """
    if len(rows.present) < items:
        raise InputError(
            str(path),
            expected=f"a row for each of {items} core items",
            found=f"{len(rows.present)} rows",
            remedy="rerun the stage that writes it",
        )
    return rows._replace(values=rows.values[:items], present=rows.present[:items])


def read_core_rows(path: Path, items: int) -> ItemRows[Matrix]:
    """Return the rows of the `items` core items of an embedding, dense or sparse, or of a modality.

    Raises:
        InputError: the file is absent, broken or too short, or has several vectors an item.
    """
    rows = read_item_rows(path)
    if rows.present.ndim > 1:
        raise InputError(
            str(path),
            expected="one vector an item",
            found="several: it is an embedding of text units",
            remedy="name an embedding that is not of units in params.yaml",
        )
    return core_rows(rows, items, path)


def read_dense_rows(names: Iterable[str], items: int) -> dict[str, ItemRows[np.ndarray]]:
    """Return the rows of the `items` core items of each embedding; one that no core item has is left out.

    Raises:
        InputError: as of `read_core_rows`, or an embedding is sparse.
    """
    dense = {}
    for name in names:
        path = EMBEDDING.at(name=name)
        values, present = read_core_rows(path, items)
        if not isinstance(values, np.ndarray):
            raise InputError(
                str(path),
                expected="dense vectors",
                found="sparse ones",
                remedy="name a dense embedding in params.yaml, for example one of kind tfidf_svd in place of tfidf",
            )
        if present.any():
            dense[name] = ItemRows(values, present)
    return dense
