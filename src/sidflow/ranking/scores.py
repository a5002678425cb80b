"""Scores of all items for a block of queries, the same to the bit for every block size and thread count.

Sums are made in float64 and rounded to float32. Differences between BLAS kernels, block sizes and thread counts lie
far below a float32's last bit, so that equal items get equal scores and ties are ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.contracts.artifacts.factors import DENSE, SPARSE
from sidflow.contracts.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float32

_BLOCK_BYTES = 16_000_000  # of one block of float64 scores


class Scores:
    """The scores that a recommender's factors give, query by query."""

    def __init__(self, arrays: Mapping[str, np.ndarray], queries: int, items: int, name: str = "factors") -> None:
        """Check the arrays of a FACTORS artifact.

        Args:
            arrays: dense factors, sparse factors, or both, whose scores are added.
            queries: number of queries in the split.
            items: number of candidates (core items) in the catalogue.
            name: of the factors in error messages.

        Raises:
            InputError: neither pair is complete, or one is of another size.
        """
        self.name, self.queries, self.items = name, queries, items
        self.dense = (arrays[DENSE[0]], arrays[DENSE[1]]) if set(DENSE) <= set(arrays) else None
        self.sparse: tuple[csr_matrix, csr_matrix] | None = None
        shapes = [] if self.dense is None else [(len(self.dense[0]), len(self.dense[1]))]
        if set(SPARSE) <= set(arrays):
            width = max(items, int(arrays["item_indices"].max(initial=-1)) + 1)
            shapes.append((len(arrays["query_indptr"]) - 1, width))
        if not shapes or any(shape != (queries, items) for shape in shapes):
            raise InputError(
                name,
                expected=f"a dense or a sparse pair of factors over {queries} queries and {items} core items",
                found=f"(queries, items) {shapes} in {sorted(arrays)}",
                remedy="rerun `dvc repro`: the recommender is older than the split; if that repeats, report a defect",
            )
        if set(SPARSE) <= set(arrays):
            joint = len(arrays["item_indptr"]) - 1
            self.sparse = (_csr(arrays, "query", (queries, joint)), _csr(arrays, "item", (joint, items)))
        self._items = None if self.dense is None else np.ascontiguousarray(self.dense[1].T, dtype=np.float64)

    @property
    def block_rows(self) -> int:
        """How many queries are scored at once: as many as fit into `_BLOCK_BYTES`."""
        return max(1, _BLOCK_BYTES // (8 * max(1, self.items)))

    def for_queries(self, rows: slice | np.ndarray) -> Float32[np.ndarray, "b n"]:
        """Return the scores of all items for the queries `rows`.

        Raises:
            InputError: a score is not finite.
        """
        total = None
        if self.dense is not None and self._items is not None:
            total = self.dense[0][rows].astype(np.float64) @ self._items
        if self.sparse is not None:
            product = self.sparse[0][rows] @ self.sparse[1]
            total = product.toarray() if total is None else total + product
        with np.errstate(over="ignore"):
            scores = np.asarray(total).astype(np.float32)
        if not np.isfinite(scores).all():
            bad = np.argwhere(~np.isfinite(scores))
            query = np.arange(self.queries)[rows][bad[0][0]]
            raise InputError(
                self.name,
                expected="finite scores",
                found="NaN or infinity",
                count=len(bad),
                example={"query_id": int(query), "item_id": int(bad[0][1])},
                remedy="train again with a smaller learning rate; curves.csv shows where it diverged",
            )
        return scores


def _csr(arrays: Mapping[str, np.ndarray], side: str, shape: tuple[int, int]) -> csr_matrix:
    parts = (arrays[f"{side}_values"].astype(np.float64), arrays[f"{side}_indices"], arrays[f"{side}_indptr"])
    return csr_matrix(parts, shape=shape)
