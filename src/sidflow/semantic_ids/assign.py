"""From a trained quantizer to semantic IDs: codes, collisions, suffixes, frozen IDs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.equal_rows import group_rows
from sidflow.semantic_ids.residual_pass import scale_distances, sinkhorn_plan

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class ModalityIds(NamedTuple):
    """The semantic IDs of one modality; codes and suffix together are unique."""

    items: Int[np.ndarray, " m"]  # item ids that have the modality, ascending
    nearest: Int[np.ndarray, "m l"]  # codes before collision resolution
    codes: Int[np.ndarray, "m l"]  # codes after it
    suffix: Int[np.ndarray, " m"]  # int32, 0 for the first item with these codes


class KeyedVectors(NamedTuple):
    """One modality's vectors of items that are named by their keys."""

    item_keys: Sequence[str]  # n
    values: Float[np.ndarray, "n d"]
    present: Bool[np.ndarray, " n"]  # rows that have the modality


def collision_suffixes(
    codes: Int[np.ndarray, "n l"], first_free: Mapping[tuple[int, ...], int] | None = None
) -> Int[np.ndarray, " n"]:
    """Return 0, 1, 2, ... for rows with equal codes, in their order, as int32.

    Args:
        codes: the codes.
        first_free: by codes, the suffix to begin with; 0 for codes that it lacks.
    """
    next_suffix = dict(first_free or {})
    suffix = np.zeros(len(codes), dtype=np.int32)
    for row, key in enumerate(map(tuple, codes.tolist())):
        suffix[row] = next_suffix.get(key, 0)
        next_suffix[key] = int(suffix[row]) + 1
    return suffix


def assign_ids(
    codec: Codec,
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    reassign: bool = False,
    epsilon: float = 0.05,
    iterations: int = 50,
) -> ModalityIds:
    """Return the IDs of the items that have the modality.

    Args:
        codec: the modality of the trained quantizer.
        values: row i = item i.
        present: items that have the modality.
        reassign: give colliding items with different inputs other last codes where some are free.
        epsilon: Sinkhorn's, for distances scaled to [-1, 1].
        iterations: Sinkhorn's.
    """
    items = np.flatnonzero(present)
    z = codec.encode(values[items])
    nearest = codec.quantize(z)
    codes = _reassign_last_codes(codec, z, nearest, values[items], epsilon, iterations) if reassign else nearest
    return ModalityIds(items, nearest, codes, collision_suffixes(codes))


def assign_ids_beside_frozen(codec: Codec, items: KeyedVectors, frozen: pl.DataFrame) -> pl.DataFrame:
    """Return IDs from frozen codebooks: items with a frozen ID keep it, new ones get the nearest codes.

    Frozen IDs are joined by item key, since dense ids change when a catalogue grows.

    Args:
        codec: the modality of the frozen quantizer.
        items: old and new items.
        frozen: columns item_key, codes, suffix, of this modality.

    Returns:
        Columns item_key, codes, suffix, new; the items that have the modality, in the order of the rows.

    Raises:
        InputError: an item key occurs twice, or a frozen ID has another number of codes than the quantizer, or a code
            that it does not have.
    """
    frozen_codes, counts = _code_matrix(frozen, codec), codec.counts
    if frozen_codes.shape[1] != len(counts) or (frozen_codes >= counts).any():
        raise InputError(
            f"frozen semantic IDs of `{codec.modality}`",
            expected=f"{len(counts)} codes below {counts}, as the frozen quantizer has them",
            found=f"{frozen_codes.shape[1]} codes up to {frozen_codes.max(initial=0)}",
            remedy="give the artifacts folder of the run that trained that quantizer",
        )
    keys = np.asarray(items.item_keys, dtype=object)[items.present]
    if len(set(keys)) < len(keys) or frozen["item_key"].is_duplicated().any():
        raise InputError("item keys", expected="each once", found="one twice", remedy="deduplicate the catalogue")
    frozen_ids = {
        key: (tuple(codes), suffix) for key, codes, suffix in frozen.select("item_key", "codes", "suffix").iter_rows()
    }
    first_free: dict[tuple[int, ...], int] = {}
    for codes, suffix in frozen_ids.values():
        first_free[codes] = max(first_free.get(codes, 0), suffix + 1)
    is_new = np.array([key not in frozen_ids for key in keys], dtype=bool)
    new_codes = codec.quantize(codec.encode(items.values[items.present][is_new]))
    new_suffix = collision_suffixes(new_codes, first_free)
    new_ids = iter(zip(map(tuple, new_codes.tolist()), new_suffix.tolist(), strict=True))
    ids = [next(new_ids) if new else frozen_ids[key] for key, new in zip(keys, is_new, strict=True)]
    return pl.DataFrame(
        {
            "item_key": keys.tolist(),
            "codes": [list(codes) for codes, _ in ids],
            "suffix": [suffix for _, suffix in ids],
            "new": is_new.tolist(),
        },
        schema={
            "item_key": pl.String,
            "codes": pl.Array(pl.Int32, codec.levels),
            "suffix": pl.Int32,
            "new": pl.Boolean,
        },
    )


def keep_frozen_ids(codec: Codec, items: KeyedVectors, frozen: pl.DataFrame) -> ModalityIds:
    """Return the IDs of a catalogue that has grown: frozen ones as they are, the nearest codes for new items.

    Args:
        codec: the modality of the frozen quantizer.
        items: all items, row i = item i.
        frozen: all modalities' frozen IDs, as `read_frozen_ids` returns them.

    Raises:
        InputError: frozen IDs have another number of codes, or codes that the quantizer does not have.
    """
    modality_ids = frozen.filter(pl.col("modality") == codec.modality)
    ids = assign_ids_beside_frozen(codec, items, modality_ids)
    nearest = codec.quantize(codec.encode(items.values[items.present]))
    return ModalityIds(np.flatnonzero(items.present), nearest, _code_matrix(ids, codec), ids["suffix"].to_numpy())


def read_frozen_ids(artifacts: Path) -> pl.DataFrame:
    """Return the IDs of an earlier run: columns item_key, modality, codes, suffix.

    Args:
        artifacts: that run's artifacts folder, with `catalog/items.parquet` and `semantic_ids/semantic_ids.parquet`.

    Raises:
        InputError: a file is missing or fails its checks.
    """
    items, ids = (replace(table, path=str(path_in(artifacts, table.path))) for table in (ITEMS, SEMANTIC_IDS))
    keys = items.read(columns=["item_id", "item_key"])
    return ids.read().join(keys, on="item_id", maintain_order="left").drop("item_id")


def check_codebooks_are_frozen(quantizer: Tensors, artifacts: Path) -> None:
    """Refuse a quantizer whose codebooks differ from those of the frozen IDs, whose codes would mean nothing in it.

    Args:
        quantizer: the one that gives new items their codes.
        artifacts: the earlier run's artifacts folder, with `quantizer/quantizer.safetensors`.

    Raises:
        InputError: that file is missing or fails its checks, or a modality has other codebooks in it.
    """
    path = path_in(artifacts, QUANTIZER.path)
    frozen_arrays = QUANTIZER.read_from(path).arrays
    names = [name for name in quantizer.arrays if name.startswith("codebooks.") and name in frozen_arrays]
    changed = [name for name in names if not np.array_equal(quantizer.arrays[name], frozen_arrays[name])]
    if changed:
        raise InputError(
            str(QUANTIZER.at()),
            expected=f"the codebooks of {path}, which gave the IDs that assign.frozen_ids_from keeps",
            found="others",
            count=len(changed),
            example=changed[0],
            remedy=f"set quantize.frozen_from to {path}, or assign.frozen_ids_from to null",
        )


def path_in(artifacts: Path, path: str) -> Path:
    """Return the path of an artifact in another run's artifacts folder."""
    return artifacts / Path(path).relative_to("artifacts")


def semantic_id_table(ids: Mapping[str, ModalityIds], levels: int) -> pl.DataFrame:
    """Return the IDs of all modalities as the artifact's columns: item_id, modality, codes, suffix."""
    frames = [
        pl.DataFrame(
            {
                "item_id": modality_ids.items.astype(np.int32),
                "modality": [name] * len(modality_ids.items),
                "codes": np.ascontiguousarray(modality_ids.codes, dtype=np.int32),
                "suffix": modality_ids.suffix,
            },
            schema_overrides={"modality": pl.String, "codes": pl.Array(pl.Int32, levels)},
        )
        for name, modality_ids in ids.items()
    ]
    return pl.concat(frames)


def _code_matrix(ids: pl.DataFrame, codec: Codec) -> Int[np.ndarray, "n l"]:
    return ids["codes"].to_numpy() if ids.height else np.empty((0, codec.levels), dtype=np.int32)


def _reassign_last_codes(
    codec: Codec, z: np.ndarray, nearest: np.ndarray, values: np.ndarray, epsilon: float, iterations: int
) -> Int[np.ndarray, "n l"]:
    """Return codes in which each different input of a colliding group has another last code, while codes are free.

    A balanced plan over the free codes, rounded one to one, decides which input gets which.
    """
    codes, last_codebook = nearest.copy(), codec.codebooks[-1]
    groups, prefixes, inputs = group_rows(nearest), group_rows(nearest[:, :-1]), group_rows(values)
    colliding = groups.size[groups.label] > 1
    residual = z - codec.dequantize(nearest) + last_codebook[nearest[:, -1]]
    for prefix in np.unique(prefixes.label[colliding]):
        rows = np.flatnonzero(prefixes.label == prefix)
        colliding_rows = rows[colliding[rows]]
        free = np.setdiff1d(np.arange(len(last_codebook)), nearest[rows[~colliding[rows]], -1])
        # One row of each different input.
        first = colliding_rows[np.unique(inputs.label[colliding_rows], return_index=True)[1]]
        if len(first) < 2:
            continue
        first = np.sort(first)[: len(free)]
        costs = scale_distances(np.square(residual[first][:, None, :] - last_codebook[free][None, :, :]).sum(2))
        plan = sinkhorn_plan(np.exp((costs.min(1, keepdims=True) - costs) / epsilon), iterations)
        row, column = linear_sum_assignment(-plan)
        code_of_input = dict(zip(inputs.label[first[row]].tolist(), free[column].tolist(), strict=True))
        for item in colliding_rows:
            codes[item, -1] = code_of_input.get(int(inputs.label[item]), codes[item, -1])
    return codes
