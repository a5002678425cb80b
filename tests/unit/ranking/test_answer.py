"""Through faiss or in full, the answer is the exact one."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sidflow.ranking import answer, top
from sidflow.ranking.scores import Scores


def drawn(queries, items, kind):
    draw = np.random.default_rng(0)
    states, matrix = (draw.normal(size=(rows, 8)).astype(np.float32) for rows in (queries, items))
    if kind == "ties":
        states, matrix = np.ones_like(states), np.round(matrix)
    arrays = {"query_states": states, "item_matrix": matrix}
    if kind == "sparse":
        for side, part in (("query", draw.random((queries, items)) > 0.8), ("item", np.eye(items))):
            kept = csr_matrix(part.astype(np.float32))
            arrays |= {
                f"{side}_indptr": kept.indptr.astype(np.int64),
                f"{side}_indices": kept.indices.astype(np.int32),
                f"{side}_values": kept.data,
            }
    return arrays, csr_matrix(draw.random((queries, items)) > 0.7)


@pytest.mark.parametrize("kind", ["dense", "ties", "sparse"])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_the_answer_is_the_sorted_scores(kind, k):
    arrays, excluded = drawn(7, 40, kind)
    found = answer.best(arrays, excluded, k)
    scores = Scores(arrays, 7, 40).of(slice(None))
    scores[excluded.toarray()] = -np.inf
    for row in range(7):
        order = np.argsort(-scores[row], kind="stable")[: int(np.isfinite(scores[row]).sum())][:k]
        assert found.items[row, : len(order)].tolist() == order.tolist()
        assert found.scores[row, : len(order)].tolist() == scores[row, order].tolist()
        assert set(found.items[row, len(order) :]) <= {-1}


def test_inner_products_alone_are_searched_by_faiss(monkeypatch):
    searched = []
    by_faiss = top.by_faiss
    monkeypatch.setattr(top, "by_faiss", lambda *given: searched.append(given) or by_faiss(*given))
    for kind in ("dense", "sparse"):
        answer.best(*drawn(3, 20, kind), 4)
        assert len(searched) == 1
