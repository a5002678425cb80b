"""The two sides of every score, before they are written: dense, sparse, or both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.contracts import refits
from sidflow.contracts.tensors import Tensors


class Factored(NamedTuple):
    """score = states @ matrix.T + evidence @ relation; either pair may be None."""

    states: np.ndarray | None = None  # float32 [q, d]
    matrix: np.ndarray | None = None  # float32 [n, d]
    evidence: csr_matrix | None = None  # float32 [q, j]
    relation: csr_matrix | None = None  # float32 [j, n]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a factors artifact."""
        arrays: dict[str, np.ndarray] = {}
        if self.states is not None and self.matrix is not None:
            arrays |= {"query_states": self.states.astype(np.float32), "item_matrix": self.matrix.astype(np.float32)}
        for side, matrix in (("query", self.evidence), ("item", self.relation)):
            if matrix is not None:
                matrix = csr_matrix(matrix)
                matrix.sum_duplicates()  # also sorts, so that the bytes are those of the content
                arrays[f"{side}_indptr"] = matrix.indptr.astype(np.int64)
                arrays[f"{side}_indices"] = matrix.indices.astype(np.int32)
                arrays[f"{side}_values"] = matrix.data.astype(np.float32)
        return arrays

    def plus(self, added: csr_matrix) -> Factored:
        """Return a dense pair with `added`, float32 [q, at most n], on top of its scores."""
        assert self.matrix is not None
        items = len(self.matrix)
        evidence = csr_matrix((added.data, added.indices, added.indptr), shape=(len(added.indptr) - 1, items))
        return self._replace(evidence=evidence, relation=csr_matrix(sparse.identity(items)))

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Return the dense scores of some queries, float32 [len(queries), n]."""
        total: np.ndarray | float = 0.0
        if self.evidence is not None and self.relation is not None:
            total = (self.evidence[queries] @ self.relation).toarray()
        if self.states is not None and self.matrix is not None:
            total = total + self.states[queries] @ self.matrix.T
        return np.asarray(total, dtype=np.float32)


def by_part(valid: np.ndarray, first: Factored, second: Factored) -> Factored:
    """Return factors by which validation queries are answered from `first` and test queries from `second`.

    Both item sides are kept next to one another; a query is zero on the side that is not its own.

    Args:
        valid: which queries are validation's, bool [q].
        first: fitted on the training parts.
        second: of the same shape, fitted on more.
    """
    states = matrix = evidence = relation = None
    if first.states is not None and second.states is not None:
        assert first.matrix is not None and second.matrix is not None and first.matrix.shape == second.matrix.shape
        states = np.hstack([first.states * valid[:, None], second.states * ~valid[:, None]])
        matrix = np.hstack([first.matrix, second.matrix])
    if first.evidence is not None and second.evidence is not None:
        keep = sparse.diags(valid.astype(np.float32)), sparse.diags((~valid).astype(np.float32))
        evidence = csr_matrix(sparse.hstack([keep[0] @ first.evidence, keep[1] @ second.evidence]))
        evidence.eliminate_zeros()
        relation = csr_matrix(sparse.vstack([first.relation, second.relation]))
    return Factored(states, matrix, evidence, relation)


def served_matrix(factors: Tensors) -> np.ndarray:
    """Return the item rows of a FACTORS artifact with a dense pair by which test queries are answered, float32 [n, d].

    Of two fits side by side, as `by_part` puts them, those are the second one's.
    """
    matrix = factors.arrays["item_matrix"]
    return np.ascontiguousarray(matrix[:, matrix.shape[1] // 2 :]) if refits.of(factors.metadata) else matrix
