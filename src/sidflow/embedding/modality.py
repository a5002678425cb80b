"""A modality: one file of item vectors, a row for every catalogue item, scaled so that all modalities are alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params
from sidflow.embedding.projection import principal_components

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

Normalise = Literal["scale", "l2", "standardise", "whiten", "none"]


class ModalityParams(Params):
    """The item vectors of one modality."""

    source: Path = Field(description="an encoder's file, or a recommender's item table")
    normalise: Normalise = Field(
        default="scale", description="scale (mean 0, one common factor) | l2 | standardise | whiten | none"
    )
    dim: int | None = Field(
        default=None, ge=1, le=8192, description="principal components kept, before normalising; null = all"
    )


def normalise(rows: Float32[np.ndarray, "p d"], how: Normalise) -> Float32[np.ndarray, "p d"]:
    """Return the present rows on a common scale.

    - `scale`: the mean taken off, then all divided by one number, so that the mean square of an entry is 1 and the
      mean squared length is d. Angles about the mean and the order of distances stay, and an autoencoder meets inputs
      of the size that its initialisation expects, whatever unit the encoder had.
    - `l2`: each row to length 1: what an item's popularity or wordiness does to its length is gone.
    - `standardise`: every dimension to mean 0 and variance 1: dimensions of little variance gain as much say as others.
    - `whiten`: the same along the principal directions, dimensions without variance left out.
    - `none`: as they are.
    """
    if len(rows) == 0 or how == "none":
        return rows.astype(np.float32)
    exact = rows.astype(np.float64)
    if how == "l2":
        return (exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    if how == "whiten":
        return principal_components(exact, exact.shape[1]).apply(exact, whiten=True)
    centred = exact - exact.mean(axis=0)
    spread = np.sqrt(np.square(centred).mean()) if how == "scale" else np.sqrt(np.square(centred).mean(axis=0))
    return (centred / np.where(spread > 1e-9, spread, 1.0)).astype(np.float32)


def make_modality(
    values: Float32[np.ndarray, "n d"], present: Bool[np.ndarray, " n"], items: int, params: ModalityParams
) -> tuple[Float32[np.ndarray, "items k"], Bool[np.ndarray, " items"]]:
    """Return a row for each of `items` items: present ones normalised, all others zero and absent.

    A source may end early (a recommender knows the core alone): what it lacks is absent.

    Raises:
        InputError: the source has more rows than the catalogue has items.
    """
    if len(values) > items:
        raise InputError(
            str(params.source),
            expected=f"a row for each of {items} catalogue items, or fewer",
            found=f"{len(values)} rows",
            remedy="run `dvc repro` so that source and catalogue are of one run",
        )
    rows = values[present]
    if params.dim is not None and len(rows):
        rows = principal_components(rows, params.dim).apply(rows)
    made = normalise(rows, params.normalise)
    full = np.zeros((items, made.shape[1]), dtype=np.float32)
    mask = np.zeros(items, dtype=bool)
    mask[: len(present)] = present
    full[mask] = made
    return full, mask
