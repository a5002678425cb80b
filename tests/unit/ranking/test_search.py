"""Through float32 products or in full, the answer is the exact one."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sidflow.core.errors import InputError
from sidflow.ranking import search
from sidflow.ranking.scores import Scores


def drawn(queries, items, kind):
    draw = np.random.default_rng(0)
    states, matrix = (draw.normal(size=(rows, 8)).astype(np.float32) for rows in (queries, items))
    if kind == "ties":
        states, matrix = np.ones_like(states), np.round(matrix)
    if kind == "one":
        states, matrix = np.ones_like(states), np.ones_like(matrix)
    if kind == "nearly":  # only float64 tells them apart
        matrix[1::2], matrix[2::4] = matrix[::2] * np.float32(1 + 1e-7), matrix[::4]
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


@pytest.mark.parametrize("kind", ["dense", "ties", "nearly", "sparse"])
@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize(("queries", "items"), [(7, 40), (94, 40), (7, 900), (94, 900)])
def test_the_answer_is_the_sorted_scores(kind, k, queries, items, monkeypatch):
    monkeypatch.setattr(search, "_BLOCK_BYTES", 4 * 25 * max(items, 16 * (k + 8)))  # 25 queries a block
    arrays, excluded = drawn(queries, items, kind)
    found = search.search_top_k(arrays, excluded, k)
    scores = Scores(arrays, queries, items).for_queries(slice(None))
    scores[excluded.toarray()] = -np.inf
    for row in range(queries):
        order = np.argsort(-scores[row], kind="stable")[: int(np.isfinite(scores[row]).sum())][:k]
        assert found.items[row, : len(order)].tolist() == order.tolist()
        assert found.scores[row, : len(order)].tolist() == scores[row, order].tolist()
        assert set(found.items[row, len(order) :]) <= {-1}


def test_what_float32_cannot_prove_is_left_and_what_it_can_is_not():
    for kind, expected in (("one", False), ("dense", True)):
        arrays, excluded = drawn(3, 900, kind)
        proven = search.proven_top_k(Scores(arrays, 3, 900), excluded, 20)[1]
        assert proven.tolist() == [expected] * 3


@pytest.mark.parametrize("side", ["query_states", "item_matrix"])
def test_scores_that_are_no_numbers_are_told(side):
    arrays, excluded = drawn(3, 900, "dense")
    arrays[side][2, 3] = np.nan
    for name, where in (({}, "factors"), ({"name": "recommenders/x"}, "recommenders/x")):
        with pytest.raises(InputError, match=f"^{where}: .*finite scores"):
            search.search_top_k(arrays, excluded, 5, **name)


def test_what_float32_proves_takes_no_copy_of_the_item_matrix(monkeypatch):
    monkeypatch.setattr(search, "_BLOCK_BYTES", 100_000)
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(20_000, 64)).astype(np.float32)
    arrays = {"query_states": draw.normal(size=(2, 64)).astype(np.float32), "item_matrix": matrix}
    excluded = csr_matrix((2, len(matrix)), dtype=bool)
    tracemalloc.start()
    search.search_top_k(arrays, excluded, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < matrix.nbytes / 4


def test_a_list_of_all_candidates_is_proven():
    arrays, excluded = drawn(3, 20, "one")
    assert search.proven_top_k(Scores(arrays, 3, 20), excluded, 20)[1].all()


def test_factors_that_do_not_fit_are_named():
    arrays, _ = drawn(3, 20, "dense")
    for name, where in (([], "factors"), (["recommenders/x"], "recommenders/x")):
        with pytest.raises(InputError, match=f"^{where}: expected .* over 4 queries and 20 core items"):
            Scores(arrays, 4, 20, *name)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_lists_and_scores_take_four_bytes_a_number(kind):
    arrays, excluded = drawn(3, 20, kind)
    assert Scores(arrays, 3, 20).for_queries(slice(None)).dtype == np.float32
    top = search.search_top_k(arrays, excluded, 4)
    assert (top.items.dtype, top.scores.dtype) == (np.int32, np.float32)
