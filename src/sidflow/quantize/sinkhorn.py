"""Sinkhorn balancing: soft assignments in which every item has one unit and every code the same share.

Works on torch tensors and numpy arrays alike, through operators and methods that both have.
"""

from __future__ import annotations

from typing import TypeVar

Array = TypeVar("Array")

SMALLEST = 1e-300  # keeps float64 kernels positive where an item is far from every code


def scaled(distances: Array) -> Array:
    """Return distances moved to [-1, 1] around the middle of their range; all zero where they are all alike."""
    low, high = distances.min(), distances.max()  # type: ignore[attr-defined]
    amplitude = (high - low) / 2
    return (distances - (high + low) / 2) / amplitude if amplitude > 0 else distances * 0  # type: ignore[operator]


def balance(kernel: Array, iterations: int) -> Array:
    """Return the transport plan [b, k] of a kernel: rows sum to 1, columns to b / k as iterations grow.

    Args:
        kernel: exp(-cost / epsilon), float64, at least zero; scale rows so that their largest entry is 1.
        iterations: rounds of scaling columns, then rows; rows hold exactly.

    Source: Cuturi 2013 (arXiv 1306.0895), Algorithm 1.
    """
    b, k = kernel.shape  # type: ignore[attr-defined]
    plan = kernel + SMALLEST  # type: ignore[operator]
    for _ in range(iterations):
        plan = plan / plan.sum(axis=0, keepdims=True) * (b / k)
        plan = plan / plan.sum(axis=1, keepdims=True)
    return plan
