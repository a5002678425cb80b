"""Principal components of rows, with fixed signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

RELATIVE_RANK = 1e-6  # variances below this share of the largest are noise, and dropped


class Projection(NamedTuple):
    """The directions of most variance, largest first; each has its largest entry positive."""

    mean: Float64[np.ndarray, " d"]
    directions: Float64[np.ndarray, "d k"]
    variances: Float64[np.ndarray, " k"]

    def apply(self, rows: np.ndarray, *, whiten: bool = False) -> Float32[np.ndarray, "n k"]:
        """Return the rows' coordinates; with `whiten` each has variance 1."""
        made = (rows - self.mean) @ self.directions
        return (made / np.sqrt(self.variances) if whiten else made).astype(np.float32)


def principal_components(rows: np.ndarray, dim: int) -> Projection:
    """Fit on `rows` [n, d]: at most `dim` directions, fewer where the rows have no higher rank, never below 1."""
    exact = rows.astype(np.float64)
    mean = exact.mean(axis=0)
    centred = exact - mean
    wide = exact.shape[1] > len(exact)  # then the inner products of rows are the smaller matrix, of the same spectrum
    variances, directions = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred) / len(exact))
    variances, directions = variances[::-1], directions[:, ::-1]
    kept = min(dim, max(1, int((variances > max(RELATIVE_RANK * variances[0], 1e-12)).sum())))
    directions = directions[:, :kept]
    if wide:
        directions = _unit(centred.T @ directions)
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(kept)])
    return Projection(mean, directions * signs, np.maximum(variances[:kept], 1e-12))


def _unit(columns: np.ndarray) -> np.ndarray:
    """Return the columns at length 1; one of zeros becomes the first axis."""
    length = np.linalg.norm(columns, axis=0)
    axis = (np.arange(len(columns)) == 0)[:, None]
    return np.where(length > 1e-12, columns / np.maximum(length, 1e-12), axis)
