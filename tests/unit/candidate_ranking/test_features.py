"""Features of candidates against loops over items, and which items are candidates."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests.unit.counting.cases import leave_one_out, random_sequences

from sidflow.candidate_ranking import features
from sidflow.candidate_ranking.features import (
    Candidates,
    CandidateSelector,
    evidence,
    feature_names,
    feature_scales,
    weighted_items,
)
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.relations import Relations, count_relations, similar_items
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.slices import new_histories

ITEMS = 15
PARAMS = CandidateRankerParams(content=("words",), last=3, recency=1.0, similar=4, linked=2, candidates=5)


@pytest.fixture(scope="module")
def made():
    past = leave_one_out(random_sequences(users=50, items=ITEMS, seed=2))
    rows = unit_rows(np.random.default_rng(1).normal(size=(ITEMS, 3)).astype(np.float32))
    return count_relations(training_events(past, ITEMS), {"words": similar_items(rows, 4)}, PARAMS)


def features_by_loops(history, made):
    steps_back = history[::-1]
    columns = []
    for name, relation in made.counted.items():
        dense = relation.toarray()
        if name == "next":
            total = dense[steps_back[0]] if steps_back else np.zeros(ITEMS)
        elif name == "shared_users":
            total = sum((dense[item] for item in history), np.zeros(ITEMS))
        else:
            total = sum((dense[item] / (step + 1) for step, item in enumerate(steps_back[:3])), np.zeros(ITEMS))
        columns.append(np.log1p(total / PARAMS.epsilon))
    for cosines in made.compared.values():
        dense = cosines.toarray()
        for step in (0, 1, 2):
            columns.append(dense[steps_back[step]] if step < len(steps_back) else np.zeros(ITEMS))
        columns.append(sum((dense[item] / (step + 1) for step, item in enumerate(steps_back[:3])), np.zeros(ITEMS)))
        columns.append(sum((dense[item] for item in history), np.zeros(ITEMS)) / max(1, len(history)))
    return np.stack(columns, 1)


HISTORIES = [[3, 1, 4, 1, 5], [9], [2, 6], [], [7, 8, 0, 3, 3, 11, 14]]


def test_features_are_what_loops_over_the_history_give(made):
    columns = [matrix.toarray() for matrix in evidence(new_histories(HISTORIES), made, PARAMS)]
    counted, cosines = ["directed", "both_ways", "next", "shared_users"], ["1", "2", "3", "recent", "mean"]
    names = [*counted, "words.linked_from", "words.linked_to", *(f"words.{part}" for part in cosines)]
    assert len(columns) == 11 and feature_names(made) == names
    for row, history in enumerate(HISTORIES):
        expected = features_by_loops(history, made)
        np.testing.assert_allclose(np.stack([column[row] for column in columns], 1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [ITEMS, 10_000])  # one history at a time, and all at once
def test_candidates_are_the_items_with_most_evidence_and_none_of_the_history(made, monkeypatch, block):
    monkeypatch.setattr(features, "BLOCK_SCORES", block)
    histories = new_histories(HISTORIES)
    scales = feature_scales(histories, made, PARAMS)
    selector = CandidateSelector(made, scales, PARAMS, exclude_history=True)
    chosen = selector.select(histories)
    for row, history in enumerate(HISTORIES):
        part = slice(chosen.indptr[row], chosen.indptr[row + 1])
        expected = features_by_loops(history, made) / scales
        total = expected.sum(1)
        total[history] = 0
        best = np.sort(np.argsort(-total, kind="stable")[:5])
        best = best[total[best] > 0]
        assert chosen.items[part].tolist() == best.tolist()
        np.testing.assert_allclose(chosen.values[part], expected[best], rtol=2e-3, atol=1e-3)  # half precision
    assert chosen.indptr[4] == chosen.indptr[3], "an empty history has no candidate"
    with_own = selector._replace(exclude_history=False).select(histories)
    own = with_own.items[with_own.indptr[4] :]
    assert set(own) & set(HISTORIES[4]), "without exclusion what the history holds can follow it"


def test_of_items_with_equal_evidence_those_with_lower_ids_are_candidates():
    items = 400
    cosines = np.zeros((items, items), dtype=np.float32)
    cosines[0, 10:] = 1
    cosines[0, [50, 300]] = 2
    relations = Relations({}, {"words": csr_matrix(cosines)}, np.zeros(items, dtype=np.int64))
    scales = np.ones(len(feature_names(relations)), dtype=np.float32)
    chosen = CandidateSelector(relations, scales, PARAMS, exclude_history=True).select(new_histories([[0], [11, 0]]))
    assert chosen.indptr.tolist() == [0, 5, 10]
    assert chosen.items.tolist() == [10, 11, 12, 50, 300, 10, 12, 13, 50, 300]


def test_items_outside_the_core_give_no_evidence(made):
    inside, outside = new_histories([[3, 1]]), new_histories([[3, ITEMS, 1, ITEMS + 4]])
    weights = weighted_items(outside, ITEMS, PARAMS)
    assert set(weights.whole.indices) == {3, 1}
    assert weights.steps[1].nnz == 0 and weights.steps[2].indices.tolist() == [1]
    for one in evidence(inside, made, PARAMS):
        assert one.shape == (1, ITEMS)


def test_the_scale_of_a_feature_is_its_root_mean_square_where_it_is_not_zero(made):
    histories = new_histories(HISTORIES)
    scales = feature_scales(histories, made, PARAMS)
    for scale, matrix in zip(scales, evidence(histories, made, PARAMS), strict=True):
        values = matrix.toarray()[matrix.toarray() > 0]
        assert np.isclose(scale, np.sqrt((values**2).mean()), rtol=1e-5)
    nothing = made._replace(compared={"words": csr_matrix((ITEMS, ITEMS), dtype=np.float32)})
    assert feature_scales(histories, nothing, PARAMS)[-5:].tolist() == [1] * 5


def test_targets_are_found_among_candidates():
    candidates = Candidates(np.array([0, 2, 2, 5]), np.array([4, 9, 0, 3, 8]), np.zeros((5, 1), np.float16))
    assert candidates.positions(np.array([9, 4, 3]), 10).tolist() == [1, -1, 3]
    assert candidates.positions(np.array([5, 5, 8]), 10).tolist() == [-1, -1, 4]
    empty = Candidates(np.array([0, 0]), np.zeros(0, np.int64), np.zeros((0, 1), np.float16))
    assert empty.positions(np.array([3]), 10).tolist() == [-1]
