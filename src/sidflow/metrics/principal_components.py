"""Principal component analysis (PCA) of item vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Float64


RELATIVE_RANK = 1e-6  # components with less than this share of the largest variance are dropped


class Projection(NamedTuple):
    """A fitted PCA: directions by variance, largest first; the largest entry of each is positive."""

    mean: Float64[np.ndarray, " d"]
    directions: Float64[np.ndarray, "d k"]
    variances: Float64[np.ndarray, " k"]

    def apply(self, rows: Float[np.ndarray, "n d"], *, whiten: bool = False) -> Float32[np.ndarray, "n k"]:
        """Return the rows' coordinates; with `whiten` each has variance 1."""
        coordinates = (rows - self.mean) @ self.directions
        return (coordinates / np.sqrt(self.variances) if whiten else coordinates).astype(np.float32)


def principal_components(rows: Float[np.ndarray, "n d"], dim: int) -> Projection:
    """Return the PCA of `rows`: `dim` directions, or as many as the rank where that is less, at least 1."""
    double = rows.astype(np.float64)
    mean = double.mean(axis=0)
    centred = double - mean
    wide = double.shape[1] > len(double)  # the Gram matrix of rows is then smaller and has the same spectrum
    variances, directions = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred) / len(double))
    variances, directions = variances[::-1], directions[:, ::-1]
    rank = min(dim, max(1, int((variances > max(RELATIVE_RANK * variances[0], 1e-12)).sum())))
    directions = directions[:, :rank]
    if wide:
        directions = _unit_columns(centred.T @ directions)
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(rank)])
    return Projection(mean, directions * signs, np.maximum(variances[:rank], 1e-12))


def _unit_columns(columns: np.ndarray) -> np.ndarray:
    """Return the columns at length 1; a zero column becomes the first axis."""
    length = np.linalg.norm(columns, axis=0)
    axis = (np.arange(len(columns)) == 0)[:, None]
    return np.where(length > 1e-12, columns / np.maximum(length, 1e-12), axis)
