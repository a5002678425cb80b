"""The top k of new queries: searched in float32 where the factors are dense, else from all scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.ranking.scores import Scores
from sidflow.ranking.search import proven_top_k
from sidflow.ranking.top import TopK, top_k_of_scores


def search_top_k(arrays: Mapping[str, np.ndarray], excluded: csr_matrix, k: int, name: str = "factors") -> TopK:
    """Return the `k` best items of every query, exact, equal scores by item id.

    Dense factors are searched in float32. Queries whose list is not proven exact by that, and all queries of factors
    with a sparse pair, are answered from all scores.

    Args:
        arrays: of a FACTORS artifact.
        excluded: bool CSR [q, n], items that must not be recommended.
        k: length of a list; -1 at its end where there are fewer candidates.
        name: of the factors in error messages.

    Raises:
        InputError: the factors do not fit `excluded`, or a score is not finite.
    """
    queries, items = map(int, excluded.shape)  # type: ignore[misc]
    scores = Scores(arrays, queries, items, name)
    remaining = np.arange(queries)
    top = TopK.empty(queries, k)
    if scores.dense is not None and scores.sparse is None:
        top, proven = proven_top_k(scores, excluded, k)
        remaining = remaining[~proven]
    for rows in np.array_split(remaining, max(1, -(-len(remaining) // scores.block_rows))):
        block, part = scores.for_queries(rows), csr_matrix(excluded[rows])
        block[np.repeat(np.arange(len(rows)), np.diff(part.indptr)), part.indices] = -np.inf
        top.write(rows, top_k_of_scores(block, k))
    return top
