"""A modality: item vectors for every item of the catalogue, on a common scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.metrics.principal_components import principal_components

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32


Normalise = Literal["scale", "length", "l2", "standardise", "whiten", "none"]


class ModalityParams(Params):
    """The item vectors of one modality."""

    source: Path = Field(description="an encoder's file, or a recommender's item table")
    normalise: Normalise = Field(
        default="scale", description="scale (mean 0, one common factor) | length | l2 | standardise | whiten | none"
    )
    dim: int | None = Field(
        default=None, ge=1, le=8192, description="principal components kept, before normalising; null = all"
    )


def normalise_rows(rows: Float32[np.ndarray, "p d"], method: Normalise) -> Float32[np.ndarray, "p d"]:
    """Return the present rows on a common scale.

    - `scale`: centred, then divided by one number so that the mean square of an entry is 1. Angles about the mean and
      the order of distances stay; the scale fits an autoencoder's initialisation.
    - `length`: the same with another number, so that the mean squared length of a row is 1.
    - `l2`: each row to length 1.
    - `standardise`: every dimension to mean 0 and variance 1.
    - `whiten`: every principal component to mean 0 and variance 1; those without variance are left out.
    - `none`: unchanged.
    """
    if len(rows) == 0 or method == "none":
        return rows.astype(np.float32)
    double = rows.astype(np.float64)
    if method == "l2":
        return (double / np.maximum(np.linalg.norm(double, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    if method == "whiten":
        return principal_components(double, double.shape[1]).apply(double, whiten=True)
    centred = double - double.mean(axis=0)
    spread = {
        "scale": np.sqrt(np.square(centred).mean()),
        "length": np.sqrt(np.square(centred).sum(axis=1).mean()),
        "standardise": np.sqrt(np.square(centred).mean(axis=0)),
    }[method]
    return (centred / np.where(spread > 1e-9, spread, 1.0)).astype(np.float32)


def make_modality(
    values: Float32[np.ndarray, "n d"], present: Bool[np.ndarray, " n"], items: int, params: ModalityParams
) -> tuple[Float32[np.ndarray, "items k"], Bool[np.ndarray, " items"]]:
    """Return a row for each of `items` catalogue items, and which are present; absent rows are zero.

    A source may have fewer rows (a recommender's item table has the core alone); the others are absent.

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
    normalised = normalise_rows(rows, params.normalise)
    values = np.zeros((items, normalised.shape[1]), dtype=np.float32)
    mask = np.zeros(items, dtype=bool)
    mask[: len(present)] = present
    values[mask] = normalised
    return values, mask
