"""Semantic IDs for items that came after the quantizer was trained, from its frozen codebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, quantized_modalities
from sidflow.catalog.keys import require_keys
from sidflow.core.errors import InputError
from sidflow.core.files import project_path
from sidflow.core.tensors import Tensors
from sidflow.features.modality import RowTransform, transform_of
from sidflow.semantic_ids.assign import KeyedVectors, assign_ids_beside_frozen, path_in, read_frozen_ids
from sidflow.semantic_ids.codec import Codec

COLUMNS = ["item_key", "modality", "codes", "suffix", "new"]


def assign_new_ids(artifacts: Path, vectors: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the semantic IDs of a run, followed by those of new items.

    An item that has an ID keeps it. A new one gets the nearest codes, and a suffix that its codes leave free.

    Args:
        artifacts: the artifacts folder of the run that trained the quantizer.
        vectors: by modality, the columns item_key and vector, as the encoder of that run writes them; the run's own
            mean, scale and components turn them into rows of the modality. Keys are text or whole numbers, in the
            spelling of `ingest`; those that have an ID already are skipped.

    Returns:
        The columns item_key, modality, codes, suffix, new.

    Raises:
        InputError: an artifact is absent, a row has no key, an item has several, or vectors are of an unknown modality,
            of another width or not finite.
    """
    quantizer = read_quantizer(artifacts)
    frozen = read_frozen_ids(artifacts)
    frames = [frozen.with_columns(new=pl.lit(False))]
    for modality, frame in vectors.items():
        transform = _read_transform(artifacts, modality, quantizer)
        keys, values = _checked_vectors(frame, modality, transform.width)
        frozen_ids = frozen.filter(pl.col("modality") == modality)
        codec = Codec(quantizer, modality)
        rows = codec.quantized_part(transform.apply(values))
        items = KeyedVectors(keys, rows, np.ones(len(values), dtype=bool))
        ids = assign_ids_beside_frozen(codec, items, frozen_ids)
        frames.append(ids.filter("new").with_columns(modality=pl.lit(modality)))
    return pl.concat([frame.select(COLUMNS) for frame in frames])


def read_quantizer(artifacts: Path) -> Tensors:
    """Read the quantizer of a run.

    Raises:
        InputError: it is absent or broken.
    """
    path = project_path(path_in(artifacts, QUANTIZER.path))
    if not path.is_file():
        raise InputError(
            str(path),
            expected="the quantizer of a finished run",
            found="no such file",
            remedy="name the artifacts folder of a run that has it, or `dvc repro assign` there",
        )
    return QUANTIZER.read_from(path)


def _read_transform(artifacts: Path, modality: str, quantizer: Tensors) -> RowTransform:
    """Return what turns an encoder's vectors into rows of a modality of that run."""
    modalities = quantized_modalities(quantizer)
    if modality not in modalities:
        raise InputError(
            f"vectors of `{modality}`",
            expected=f"a modality of the quantizer: {', '.join(modalities)}",
            found=modality,
            remedy="leave it out, or train a quantizer with it",
        )
    path = project_path(path_in(artifacts, MODALITY.path.format(name=modality)))
    return transform_of(MODALITY.read_from(path), path)


def _checked_vectors(frame: pl.DataFrame, modality: str, width: int) -> tuple[list[str], np.ndarray]:
    """Return the item keys, and the vectors as float32 [n, width]."""
    where = f"vectors of `{modality}`"
    try:
        column, vectors = frame["item_key"], frame["vector"]
        values = _as_float32(vectors) if len(vectors) else np.zeros((0, width), dtype=np.float32)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            where,
            expected="the columns item_key and vector, a fixed number of floats",
            found=str(error).splitlines()[0],
            remedy="write the embeddings of one encoder",
        ) from error
    keys = require_keys(column, where, lambda row: f"row {row + 1}", name="item_key")[0].cast(pl.String)
    if keys.is_duplicated().any():
        repeated = keys.filter(keys.is_duplicated())
        raise InputError(
            where,
            expected="one row per item",
            found="items with several",
            count=repeated.n_unique(),
            example=repeated[0],
            remedy="keep one row of each item",
        )
    if values.shape[1] != width:
        raise InputError(
            where,
            expected=f"vectors of {width} dimensions, as the encoder of that run writes them",
            found=f"{values.shape[1]}",
            remedy="embed them with the encoder of that run",
        )
    invalid = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(invalid):
        raise InputError(
            where,
            expected="finite vectors",
            found="NaN or infinity",
            count=len(invalid),
            example=keys[int(invalid[0])],
            remedy="leave these items out, or embed them again",
        )
    return keys.to_list(), values


def _as_float32(vectors: pl.Series) -> np.ndarray:
    """Return a column of vectors as float32 [n, d], without a Python object for each number; NaN for a null."""
    if not isinstance(vectors.dtype, pl.Array):
        vectors = vectors.list.to_array(max(vectors.list.len().drop_nulls().to_list(), default=0))
    assert isinstance(vectors.dtype, pl.Array)
    return vectors.cast(pl.Array(pl.Float32, vectors.dtype.size)).to_numpy()
