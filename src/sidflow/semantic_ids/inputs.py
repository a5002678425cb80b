"""What a quantizer is trained on: the usable modalities, normalised, and how many codes each level gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sidflow.core.errors import InputError
from sidflow.metrics.principal_components import principal_components
from sidflow.semantic_ids.equal_rows import group_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


MAX_AUTO_CODES = 256  # per level
MIN_ITEMS_PER_AUTO_CODE = 4  # distinct items


class ModalityVectors(NamedTuple):
    """The item vectors of one modality, as the pipeline stores them."""

    values: Float[np.ndarray, "n d"]  # float32, row i = item i, absent rows zero
    present: Bool[np.ndarray, " n"]


class Projected(NamedTuple):
    """The principal components of a modality that are quantized, and how rows become them."""

    components: ModalityVectors  # absent rows zero
    directions: Float[np.ndarray, "d k"]  # float32, orthonormal, by variance, largest first


class NormalisedVectors(NamedTuple):
    """A modality with mean zero and a mean variance of one per dimension; distances keep their proportions."""

    values: Float[np.ndarray, "n d"]  # float32, absent rows zero
    mean: Float[np.ndarray, " d"]  # float32
    scale: Float[np.ndarray, " 1"]  # float32


def usable_modalities(modalities: Mapping[str, ModalityVectors]) -> dict[str, ModalityVectors]:
    """Return the modalities that at least one item has.

    Raises:
        InputError: modalities differ in their number of items, or no item has any.
    """
    sizes = {name: len(modality.present) for name, modality in modalities.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "artifacts/modalities",
            expected="the same items in every modality",
            found=f"rows {sizes}",
            remedy="run `dvc repro quantize`, which makes them from one catalogue",
        )
    usable = {name: modality for name, modality in modalities.items() if modality.present.any()}
    if not usable:
        raise InputError(
            "artifacts/modalities",
            expected="an item with a vector in at least one modality",
            found=f"none in {list(modalities)}",
            remedy="name other sources under `modality` in params.yaml",
        )
    return usable


def normalise(modality: ModalityVectors) -> NormalisedVectors:
    """Return `modality` less its mean, over the root of its mean variance; both are of its present rows."""
    rows = modality.values[modality.present].astype(np.float64)
    mean = rows.mean(axis=0).astype(np.float32)
    spread = float(np.sqrt(np.square(rows - mean).mean()))
    scale = np.float32(spread if spread > 0 else 1.0)
    values = (modality.values - mean) / scale * modality.present[:, None]
    return NormalisedVectors(values.astype(np.float32), mean, np.array([scale]))


def quantized_components(modality: ModalityVectors, count: int) -> Projected:
    """Return the `count` principal components of the present rows, not centred; fewer where the rank is less."""
    rows = modality.values[modality.present]
    directions = principal_components(rows, count).directions.astype(np.float32)
    return Projected(ModalityVectors(modality.values @ directions, modality.present), directions)


def codes_per_level(
    values: Float[np.ndarray, "n d"], codes: int | list[int] | Literal["auto"], levels: int, modality: str
) -> list[int]:
    """Return the number of codes of each level.

    Args:
        values: the present rows of the modality.
        codes: the knob. `auto` is the largest power of two, from 2 to 256, that leaves every code 4 distinct items.
        levels: codes per item.
        modality: its name, for messages.

    Raises:
        InputError: fewer distinct items than codes.
    """
    distinct = len(group_rows(values).size)
    if codes == "auto":
        counts = [max(2, min(MAX_AUTO_CODES, 2 ** int(np.log2(max(1, distinct // MIN_ITEMS_PER_AUTO_CODE)))))] * levels
    else:
        counts = codes if isinstance(codes, list) else [codes] * levels
    if distinct < max(counts):
        raise InputError(
            f"artifacts/modalities/{modality}.safetensors",
            expected=f"at least {max(counts)} distinct items for {max(counts)} codes",
            found=f"{distinct} distinct among {len(values)} items",
            remedy=f"set quantize.codes to {distinct} or less, or to auto"
            if distinct >= 2
            else f"take `{modality}` out of `modality` in params.yaml: it tells no two items apart",
        )
    return counts
