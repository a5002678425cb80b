"""The residual pass: one code per level, each chosen for what the levels before leave over.

Written once for numpy arrays and torch tensors, through operators that both have. How a level chooses its codes is
the caller's: the nearest code, a code from a balanced Sinkhorn plan, or codes of a codebook that the choice itself
has just fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

Array = TypeVar("Array")

SMALLEST_KERNEL = 1e-300  # keeps float64 kernels positive where a row is far from every code


class ResidualLevel(Generic[Array]):
    """One level of a residual pass.

    Attributes:
        index: the level, from 0.
        residual: [n, d], what enters the level.
        codes: [n], the codes chosen.
        quantized: [n, d], what the level takes from the residual: the code vectors, until the loop's body puts
            something of the same value there, such as a gradient estimator.
    """

    def __init__(self, index: int, residual: Array, codes: Any, quantized: Array) -> None:
        """Keep the arrays."""
        self.index, self.residual, self.codes, self.quantized = index, residual, codes, quantized

    @cached_property
    def remainder(self) -> Array:
        """[n, d], residual - quantized: what enters the next level."""
        return self.residual - self.quantized  # type: ignore[operator]


def residual_levels(
    z: Array, codebooks: Sequence[Any], choose_codes: Callable[[int, Array], Any]
) -> Iterator[ResidualLevel[Array]]:
    """Yield the levels of the residual pass over the rows of `z`, coarse first.

    The next residual is computed after the loop's body has run, so that the body may replace `level.quantized`.

    Args:
        z: [n, d], the rows to quantize.
        codebooks: [k, d] each. They are read after `choose_codes` has run, which may change them in place.
        choose_codes: takes the level's index and its residual [n, d], returns codes [n].

    Source: residual vector quantization as in RQ-VAE (Lee et al. 2022, arXiv 2203.01941).
    """
    residual = z
    for index, codebook in enumerate(codebooks):
        codes = choose_codes(index, residual)
        level = ResidualLevel(index, residual, codes, codebook[codes])
        yield level
        residual = level.remainder


def scale_distances(distances: Array) -> Array:
    """Return distances moved to [-1, 1] around the middle of their range; zero where all are equal."""
    low, high = distances.min(), distances.max()  # type: ignore[attr-defined]
    amplitude = (high - low) / 2
    return (distances - (high + low) / 2) / amplitude if amplitude > 0 else distances * 0  # type: ignore[operator]


def sinkhorn_plan(kernel: Array, iterations: int) -> Array:
    """Return the balanced transport plan of a kernel: every row has one unit, every code the same share.

    Rows sum to 1 exactly, columns to b / k as iterations grow.

    Args:
        kernel: [b, k], exp(-cost / epsilon), float64, at least zero; rows scaled to a largest entry of 1.
        iterations: rounds of scaling columns, then rows.

    Source: Cuturi 2013 (arXiv 1306.0895), Algorithm 1.
    """
    b, k = kernel.shape  # type: ignore[attr-defined]
    plan = kernel + SMALLEST_KERNEL  # type: ignore[operator]
    for _ in range(iterations):
        plan = plan / plan.sum(axis=0, keepdims=True) * (b / k)
        plan = plan / plan.sum(axis=1, keepdims=True)
    return plan
