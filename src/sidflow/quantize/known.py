"""IDs given earlier stay as they are: the catalogue has grown, its dense ids have moved, item keys join."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.contracts.errors import InputError
from sidflow.contracts.tensors import Tensors
from sidflow.quantize.assignment import Assigned, assign_new
from sidflow.quantize.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float


def earlier(artifacts: Path) -> pl.DataFrame:
    """Return the IDs of an earlier run: columns item_key, modality, codes, suffix.

    Args:
        artifacts: that run's artifacts folder, with `catalog/items.parquet` and `semantic_ids/semantic_ids.parquet`.

    Raises:
        InputError: a file is absent or not what it should be.
    """
    items, ids = (replace(table, path=str(_in(artifacts, table.path))) for table in (ITEMS, SEMANTIC_IDS))
    keys = items.read(columns=["item_id", "item_key"])
    return ids.read().join(keys, on="item_id", maintain_order="left").drop("item_id")


def check_frozen(quantizer: Tensors, artifacts: Path) -> None:
    """Refuse a quantizer whose codebooks are not those that gave the known IDs: their codes would mean nothing in it.

    Args:
        quantizer: what new items get their codes from.
        artifacts: the earlier run's artifacts folder, with `quantizer/quantizer.safetensors`.

    Raises:
        InputError: that file is absent or not what it should be, or a modality has other codebooks in it.
    """
    path = _in(artifacts, QUANTIZER.path)
    before = QUANTIZER.read_from(path).arrays
    names = [name for name in quantizer.arrays if name.startswith("codebooks.") and name in before]
    other = [name for name in names if not np.array_equal(quantizer.arrays[name], before[name])]
    if other:
        raise InputError(
            str(QUANTIZER.at()),
            expected=f"the codebooks of {path}, which gave the IDs that assign.known_from keeps",
            found="others",
            count=len(other),
            example=other[0],
            remedy=f"set quantize.frozen_from to {path}, or assign.known_from to null",
        )


def _in(artifacts: Path, path: str) -> Path:
    return artifacts / Path(path).relative_to("artifacts")


def keep(
    codec: Codec,
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    item_keys: Sequence[str],
    known: pl.DataFrame,
) -> Assigned:
    """Return the IDs of a modality's items: known ones keep codes and suffix, new ones get the nearest codes.

    Args:
        codec: the modality of the frozen quantizer.
        values: [n, d], row i = item i.
        present: which rows count.
        item_keys: of all rows.
        known: as `earlier` returns it.

    Raises:
        InputError: the known IDs have another number of codes, or codes that the quantizer does not have.
    """
    own = known.filter(pl.col("modality") == codec.modality)
    counts = [len(codebook) for codebook in codec.codebooks]
    codes = own["codes"].to_numpy() if own.height else np.empty((0, len(counts)), dtype=np.int32)
    if codes.shape[1] != len(counts) or (codes >= counts).any():
        raise InputError(
            f"known semantic IDs of `{codec.modality}`",
            expected=f"{len(counts)} codes below {counts}, as the frozen quantizer has them",
            found=f"{codes.shape[1]} codes up to {codes.max(initial=0)}",
            remedy="give the artifacts folder of the run that trained that quantizer",
        )
    found = assign_new(codec, values, present, item_keys, own)
    nearest = codec.codes(codec.encode(values[present]))
    kept = found["codes"].to_numpy() if found.height else np.empty((0, len(counts)), dtype=np.int32)
    return Assigned(np.flatnonzero(present), nearest, kept, found["suffix"].to_numpy())
