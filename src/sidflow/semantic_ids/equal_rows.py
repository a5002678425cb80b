"""Which rows of an array are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped


class RowGroups(NamedTuple):
    """Rows grouped by equality."""

    label: Int[np.ndarray, " n"]  # each row's group
    size: Int[np.ndarray, " g"]  # rows of each group
    first: Int[np.ndarray, " g"]  # the first row of each group


def group_rows(rows: Shaped[np.ndarray, "n d"]) -> RowGroups:
    """Return which rows are equal, -0.0 and 0.0 being one value; the order of the groups means nothing."""
    if rows.shape[1] == 0:
        return RowGroups(np.zeros(len(rows), dtype=np.int64), np.array([len(rows)]), np.zeros(1, dtype=np.int64))
    contiguous = np.ascontiguousarray(rows + 0)
    as_bytes = contiguous.view(np.dtype((np.void, contiguous.dtype.itemsize * rows.shape[1])))[:, 0]  # fast to sort
    _, first, label, size = np.unique(as_bytes, return_index=True, return_inverse=True, return_counts=True)
    return RowGroups(label.reshape(-1), size, first)
