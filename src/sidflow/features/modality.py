"""A modality: item vectors for every item of the catalogue, on a common scale.

What turns an encoder's rows into a modality's is fitted to the items. The artifact keeps it, for new items.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
from pydantic import Field

from sidflow.artifacts.features import MODALITY
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.core.tensors import Tensors
from sidflow.metrics.principal_components import Projection, principal_components

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64


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
    frozen_from: Path | None = Field(
        default=None,
        description="modality file of an earlier run, whose mean, scale and components are used; null = fit them",
    )

    @property
    def is_fitted(self) -> bool:
        """Whether a row depends on the other items' rows."""
        return self.dim is not None or self.normalise not in ("l2", "none")


class RowTransform(NamedTuple):
    """What turns an encoder's rows into those of a modality: principal components, if any, then a normalisation.

    - `scale`: centred, then divided by one number so that the mean square of an entry is 1. Angles about the mean and
      the order of distances stay; the scale fits an autoencoder's initialisation.
    - `length`: the same with another number, so that the mean squared length of a row is 1.
    - `l2`: each row to length 1.
    - `standardise`: every dimension to mean 0 and variance 1.
    - `whiten`: every principal component to mean 0 and variance 1; those without variance are left out.
    - `none`: unchanged.
    """

    width: int  # of the encoder's rows
    normalise: Normalise
    components: Projection | None = None  # of `dim`
    whitening: Projection | None = None  # of `whiten`
    mean: Float64[np.ndarray, " c"] | None = None  # of `scale`, `length` and `standardise`, as is the next
    spread: Float64[np.ndarray, " s"] | None = None  # one number, or one a dimension

    def apply(self, rows: Float32[np.ndarray, "p w"]) -> Float32[np.ndarray, "p k"]:
        """Return the rows of the modality."""
        if self.components is not None:
            rows = self.components.apply(rows)
        if self.whitening is not None:
            return self.whitening.apply(rows.astype(np.float64), whiten=True)
        double = rows.astype(np.float64)
        if self.normalise == "l2":
            return (double / np.maximum(np.linalg.norm(double, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        if self.mean is None or self.spread is None:
            return rows.astype(np.float32)
        return ((double - self.mean) / self.spread).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what the artifact keeps beside its rows."""
        projections = {"components": self.components, "whitening": self.whitening}
        parts = [(name, part) for name, part in projections.items() if part is not None]
        arrays = {f"{name}.{field}": array for name, part in parts for field, array in part._asdict().items()}
        return arrays | {name: array for name in ("mean", "spread") if (array := getattr(self, name)) is not None}


def fit_rows(rows: Float32[np.ndarray, "p w"], normalise: Normalise, dim: int | None = None) -> RowTransform:
    """Return the transform fitted to the rows that are present; without any it changes nothing but lengths."""
    fitted = RowTransform(rows.shape[1], normalise)
    if not len(rows):
        return fitted
    if dim is not None:
        components = principal_components(rows, dim)
        fitted, rows = fitted._replace(components=components), components.apply(rows)
    double = rows.astype(np.float64)
    if normalise == "whiten":
        return fitted._replace(whitening=principal_components(double, double.shape[1]))
    if normalise in ("l2", "none"):
        return fitted
    mean = double.mean(axis=0)
    squares = np.square(double - mean)
    variance = {
        "scale": squares.mean(),
        "length": squares.sum(axis=1).mean(),
        "standardise": squares.mean(axis=0),
    }[normalise]
    spread = np.sqrt(np.atleast_1d(variance))
    return fitted._replace(mean=mean, spread=np.where(spread > 1e-9, spread, 1.0))


def transform_of(modality: Tensors, path: Path) -> RowTransform:
    """Return the transform that a modality's file keeps.

    Raises:
        InputError: no item had the modality, so that nothing was fitted.
    """
    arrays, metadata = modality
    settings = cast("dict", metadata["params"])
    if not arrays["present"].any():
        raise InputError(
            str(path),
            expected="a modality that some item has, as its mean and scale are fitted to items",
            found="none that has it",
            remedy="name the file of a run that has some",
        )
    parts = {
        name: Projection(**{field: arrays[f"{name}.{field}"] for field in Projection._fields})
        for name in ("components", "whitening")
        if f"{name}.mean" in arrays
    }
    return RowTransform(
        int(str(metadata["width"])),
        settings["normalise"],
        parts.get("components"),
        parts.get("whitening"),
        arrays.get("mean"),
        arrays.get("spread"),
    )


def read_transform(settings: ModalityParams, width: int) -> RowTransform:
    """Return the transform of the earlier modality that `frozen_from` names, for an encoder's rows of `width`.

    Raises:
        InputError: there is no such file, or it was made of rows of another width or by other params.
    """
    path = cast("Path", settings.frozen_from)
    modality = MODALITY.read_from(path)
    fitted = transform_of(modality, path)
    earlier = cast("dict", modality.metadata["params"])
    expected = {"width": fitted.width, "normalise": earlier["normalise"], "dim": earlier["dim"]}
    found = {"width": width, "normalise": settings.normalise, "dim": settings.dim}
    changed = [name for name in expected if expected[name] != found[name]]
    if changed:
        raise InputError(
            str(path),
            expected=", ".join(f"{name} {found[name]}" for name in changed),
            found=", ".join(f"{name} {expected[name]}" for name in changed),
            remedy="take the encoder, `normalise` and `dim` of that run, or set `frozen_from: null`",
        )
    return fitted


class Modality(NamedTuple):
    """A row for each catalogue item, and what they were made by."""

    values: Float32[np.ndarray, "n k"]  # absent rows are zero
    present: Bool[np.ndarray, " n"]
    transform: RowTransform


def make_modality(
    values: Float32[np.ndarray, "n w"], present: Bool[np.ndarray, " n"], items: int, params: ModalityParams
) -> Modality:
    """Return the modality of `items` catalogue items.

    A source may have fewer rows (a recommender's item table has the core alone); the others are absent.

    Raises:
        InputError: the source has more rows than the catalogue has items; else as of `read_transform`.
    """
    if len(values) > items:
        raise InputError(
            str(params.source),
            expected=f"a row for each of {items} catalogue items, or fewer",
            found=f"{len(values)} rows",
            remedy="run `dvc repro` so that source and catalogue are of one run",
        )
    rows = values[present]
    if params.frozen_from is not None:
        transform = read_transform(params, values.shape[1])
    else:
        transform = fit_rows(rows, params.normalise, params.dim)
    transformed = transform.apply(rows)
    made = np.zeros((items, transformed.shape[1]), dtype=np.float32)
    mask = np.zeros(items, dtype=bool)
    mask[: len(present)] = present
    made[mask] = transformed
    return Modality(made, mask, transform)
