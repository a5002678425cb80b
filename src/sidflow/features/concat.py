"""Vectors of several encoders side by side, as one: exact words and meaning, or text and picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import ItemRows
from sidflow.metrics.geometry import unit_rows


def concatenate(parts: Sequence[ItemRows], weights: Sequence[float]) -> ItemRows:
    """Return the parts side by side; sparse where one of them is.

    Every part is at unit length times its weight, over the root of the sum of squared weights. So two items that have
    all parts have the weighted mean of the parts' cosines. An item is present if any part is; an absent part is zero.
    """
    present = np.logical_or.reduce([part.present for part in parts])
    scales = np.asarray(weights, dtype=np.float64) / np.sqrt(np.square(weights).sum())
    blocks = [
        unit_rows(part.values, part.present) * np.float32(scale) for part, scale in zip(parts, scales, strict=True)
    ]
    if any(sparse.issparse(block) for block in blocks):
        return ItemRows(csr_matrix(sparse.hstack(blocks), dtype=np.float32), present)
    return ItemRows(np.hstack(blocks).astype(np.float32), present)
