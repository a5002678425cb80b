"""Rows scaled to length 1, whose inner products are cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def unit_rows(
    values: Float[np.ndarray, "n d"], present: Bool[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "n d"]:
    """Return rows scaled to length 1, float32; zero rows, and those that are not `present`, are zero."""
    kept = values if present is None else values * present[:, None]
    lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
    return (kept / np.where(lengths > 0, lengths, 1)).astype(np.float32)
