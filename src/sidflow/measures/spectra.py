"""How many of its dimensions an embedding uses: singular values and metrics of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

COLLAPSED_BELOW = 1e-3  # share of the largest singular value below which a dimension counts as collapsed
_ROWS_PER_BLOCK = 65_536  # of the Gram matrix


class Spectrum(NamedTuple):
    """Metrics of an embedding of d dimensions."""

    singular_values: Float[np.ndarray, " m"]  # float64, m = min(n, d), descending
    effective_rank: float  # exp of the entropy of the normalised singular values, 1 to d (Roy and Vetterli 2007)
    information_abundance: float  # sum of singular values over the largest, 1 to d (Guo et al. 2023)
    alive_share: float  # share of the d dimensions that have not collapsed
    isotropy: float  # 0 = one direction dominates, 1 = all directions equal (Mu and Viswanath 2018)
    mean_cosine: float  # between two distinct rows


def singular_values(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " m"]:
    """Return the singular values, float64, descending, computed from the smaller Gram matrix."""
    return np.sqrt(np.clip(np.linalg.eigvalsh(_gram(values))[::-1], 0, None))


def effective_rank(singular: Float[np.ndarray, " m"]) -> float:
    """Return exp(entropy of s / sum s). Source: Roy and Vetterli 2007."""
    if singular.sum() <= 0:
        return 0.0
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def information_abundance(singular: Float[np.ndarray, " m"]) -> float:
    """Return sum s / max s. Source: Guo et al. 2023, On the embedding collapse when scaling up recommenders."""
    return float(singular.sum() / singular.max()) if len(singular) and singular.max() > 0 else 0.0


def alive_share(singular: Float[np.ndarray, " m"], dimensions: int, threshold: float = COLLAPSED_BELOW) -> float:
    """Return the share of `dimensions` whose singular value is above `threshold` times the largest."""
    if not len(singular) or singular.max() <= 0:
        return 0.0
    return float((singular > threshold * singular.max()).sum() / dimensions)


def isotropy(values: Float[np.ndarray, "n d"]) -> float:
    """Return min over max of the partition function over the principal directions, rows scaled to length 1.

    Source: Mu and Viswanath 2018, Eq. 5; deviation: unit rows, so that the scale of an embedding does not count.
    """
    rows = _nonzero_unit_rows(values)
    if not len(rows):
        return 0.0
    _, vectors = np.linalg.eigh(rows.T @ rows)
    low, high = np.inf, 0.0
    projections = rows @ vectors
    for sign in (1, -1):
        partition = np.exp(sign * projections).mean(axis=0)
        low, high = min(low, float(partition.min())), max(high, float(partition.max()))
    return low / high


def mean_cosine(values: Float[np.ndarray, "n d"]) -> float:
    """Return the mean cosine between two distinct rows (exact: from the sum of the unit rows)."""
    rows = _nonzero_unit_rows(values)
    n = len(rows)
    return float((np.square(rows.sum(axis=0)).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def compute_spectrum(values: Float[np.ndarray, "n d"], max_rows: int = 20_000) -> Spectrum:
    """Return all metrics of the rows of `values`.

    Args:
        values: item vectors, present rows only.
        max_rows: isotropy and cosine are measured on this many rows at most, evenly spaced.
    """
    singular = singular_values(values)
    sample = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), max_rows)).astype(int))]
    return Spectrum(
        singular_values=singular,
        effective_rank=effective_rank(singular),
        information_abundance=information_abundance(singular),
        alive_share=alive_share(singular, values.shape[1]),
        isotropy=isotropy(sample),
        mean_cosine=mean_cosine(sample),
    )


def _nonzero_unit_rows(values: np.ndarray) -> np.ndarray:
    """Return the rows that are not zero, scaled to length 1 in float64."""
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    return values[norms > 0].astype(np.float64) / norms[norms > 0, None]


def _gram(values: np.ndarray) -> np.ndarray:
    """Return the smaller of the two Gram matrices, float64."""
    if len(values) <= values.shape[1]:
        rows = values.astype(np.float64)
        return rows @ rows.T
    gram = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values), _ROWS_PER_BLOCK):
        rows = values[start : start + _ROWS_PER_BLOCK].astype(np.float64)
        gram += rows.T @ rows
    return gram
