"""The best items of queries that came in: looked up where scores are inner products alone, else scored in full."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.ranking import search, top
from sidflow.ranking.scores import Scores


def best(arrays: Mapping[str, np.ndarray], excluded: csr_matrix, k: int, name: str = "factors") -> top.Top:
    """Return the `k` best items of every query, exact, ties by item id.

    Dense factors are searched in float32 (few queries in a flat faiss index); a query that this leaves in doubt, and
    factors with a sparse pair, are scored in full. The answer is the same.

    Args:
        arrays: of a FACTORS artifact.
        excluded: bool CSR [q, n], what must not be recommended.
        k: how many; fewer candidates leave -1 at the end.
        name: what errors call the factors.

    Raises:
        InputError: the factors do not fit, or a score is not finite.
    """
    queries, items = map(int, excluded.shape)  # type: ignore[misc]
    scores = Scores(arrays, queries, items, name)
    left = np.arange(queries)
    found = top.Top.empty(queries, k)
    if scores.dense is not None and scores.sparse is None:
        found, proven = search.by_inner_product(scores, excluded, k)
        left = left[~proven]
    for rows in np.array_split(left, max(1, -(-len(left) // scores.block_rows))):
        block, part = scores.of(rows), csr_matrix(excluded[rows])
        block[np.repeat(np.arange(len(rows)), np.diff(part.indptr)), part.indices] = -np.inf
        found.put(rows, top.of_block(block, k))
    return found
