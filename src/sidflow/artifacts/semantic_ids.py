"""The trained quantizer, and the semantic IDs that it gives.

Arrays, for every quantized modality m (a modality that no item has is absent from all of them):

    codebooks.<m>              float32 [levels, codes, code_dim]; rows from `code_counts(m)[level]` on are padding (0)
    projection.<m>             float32 [width of a row, d]: x = row @ projection; without it x = row
    mean.<m>, scale.<m>        float32 [d], [1]: the encoder's input is (x - mean) / scale
    encoder.<m>.<i>.weight ... float32 [out, in], the layers in order, ReLU between them (none for a method without)
    encoder.<m>.skip.weight .. a linear map of the input that is added to the last layer's output (optional)
    decoder.<m>. ...           the same, mirrored
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from sidflow.core.documents import Curve, Document
from sidflow.core.errors import InputError
from sidflow.core.tables import Table, Vector
from sidflow.core.tensors import TensorFile, Tensors

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


QUANTIZER = TensorFile(
    name="quantizer", version=1, path="artifacts/quantizer/quantizer.safetensors", arrays={}, free=True
)

QUANTIZER_SUMMARY = Document("artifacts/quantizer/summary.json")  # params in force, sizes, best epoch, device

QUANTIZER_CURVES = Curve("artifacts/quantizer/curves.csv")  # one row an epoch: epoch, losses, metrics over all items

MODALITIES_KEY = "modalities"  # metadata: {name: {"codes": codes of each level, "items": how many have it}}
ORDER_KEY = "order"  # metadata: the names in the order of params


def quantized_modalities(quantizer: Tensors) -> list[str]:
    """Return the quantized modalities in the order of params."""
    return list(cast("list", quantizer.metadata[ORDER_KEY]))


def code_counts(quantizer: Tensors, modality: str) -> list[int]:
    """Return how many codes each level of `modality` has."""
    return list(cast("dict", quantizer.metadata[MODALITIES_KEY])[modality]["codes"])


def modality_codebooks(quantizer: Tensors, modality: str) -> Float[np.ndarray, "l k d"]:
    """Return the codebooks of `modality`, padded with zeros to the largest level.

    Raises:
        InputError: the quantizer has no such modality.
    """
    name = f"codebooks.{modality}"
    if name not in quantizer.arrays:
        raise InputError(
            str(QUANTIZER.at()),
            expected=f"codebooks of the modality `{modality}`",
            found=f"codebooks of {quantized_modalities(quantizer)}",
            remedy="rerun `dvc repro quantize`; a modality that no item has is not quantized",
        )
    return quantizer.arrays[name]


def codebook_digest(quantizer: Tensors, modalities: Iterable[str]) -> str:
    """Return a SHA-256, in hex, of the codebooks of `modalities`: codes of other codebooks mean other items.

    Raises:
        InputError: the quantizer has no such modality.
    """
    digest = hashlib.sha256()
    for modality in modalities:
        digest.update(modality_codebooks(quantizer, modality).tobytes())
    return digest.hexdigest()


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
