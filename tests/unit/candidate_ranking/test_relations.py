"""Item-to-item evidence against hand-worked and brute-force figures."""

import numpy as np
from scipy.sparse import csr_matrix
from tests.unit.counting.cases import leave_one_out, random_sequences

from sidflow.candidate_ranking import relations
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.relations import count_relations, linked, shared_users, similar_items
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import Events, training_events


def brute_force_similar(rows, count):
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, 0)
    expected = np.zeros_like(cosines)
    for row, values in enumerate(cosines):
        best = np.argsort(-values, kind="stable")[:count]
        expected[row, best] = np.maximum(values[best], 0)
    return expected


def test_the_largest_positive_cosines_to_others_are_kept_dense_or_sparse(monkeypatch):
    monkeypatch.setattr(relations, "BLOCK", 7)  # several blocks
    rows = unit_rows(np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32))
    rows[5] = 0  # an item without content is similar to none
    expected = brute_force_similar(rows, 3)
    for content in (rows, csr_matrix(rows)):
        similar = similar_items(content, 3)
        assert similar.shape == (23, 23)
        np.testing.assert_allclose(similar.toarray(), expected, atol=1e-6)
    assert not expected[5].any() and not expected[:, 5].any()
    assert (np.diff(similar_items(rows, 3).indptr) <= 3).all()


def test_an_item_with_an_identical_twin_is_similar_to_the_twin_and_not_to_itself():
    rows = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert similar_items(rows, 2).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_shared_users_are_a_shrunk_cosine():
    events = Events(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), 4)
    shared = shared_users(events, 5).toarray()
    assert np.isclose(shared[0, 1], 2 / 12) and np.isclose(shared[1, 0], 2 / 12)  # 2 users over sqrt(2 + 10) twice
    shared[[0, 1], [1, 0]] = 0
    assert not shared.any()


def test_an_item_bought_again_shares_no_fewer_users():
    once = Events(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), 4)
    again = Events(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 0, 1, 2]), 4)
    assert np.array_equal(shared_users(again, 5).toarray(), shared_users(once, 5).toarray())


def test_links_are_the_largest_entries_of_the_product(monkeypatch):
    monkeypatch.setattr(relations, "BLOCK", 2)
    first = np.array([[0, 2, 0], [1, 0, 1], [0, 0, 0]], dtype=np.float32)
    second = np.array([[5, 0, 1], [0, 1, 3], [2, 2, 0]], dtype=np.float32)
    links = linked(csr_matrix(first), csr_matrix(second), 2).toarray()
    assert links.tolist() == [[0, 2, 6], [7, 2, 0], [0, 0, 0]]  # of the second row [7, 2, 1] two are kept


def test_every_relation_counts_what_its_name_says():
    past = leave_one_out([[0, 1, 2, 8, 8], [0, 1, 3, 8, 8], [4, 0, 8, 8]])
    params = CandidateRankerParams(content=("words",), window=2, decay=1.0, backward=0.5, damping=0.0, linked=1)
    cosines = csr_matrix(([0.5], ([5], [0])), shape=(9, 9), dtype=np.float32)
    made = count_relations(training_events(past, 9), {"words": cosines}, params)
    assert list(made.counted) == [
        "directed", "both_ways", "next", "shared_users", "words.linked_from", "words.linked_to",
    ]  # fmt: skip
    dense = {name: relation.toarray() for name, relation in made.counted.items()}
    assert dense["next"][0].tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0]  # 1 follows 0 twice
    assert dense["directed"][1].tolist() == [1, 0, 1, 1, 0, 0, 0, 0, 0]  # backward pairs count half
    assert dense["both_ways"][1].tolist() == [2, 0, 1, 1, 0, 0, 0, 0, 0]
    assert dense["words.linked_from"][5].tolist() == (0.5 * dense["directed"][0]).tolist()  # what 0 is bought with
    assert dense["words.linked_to"].any() == False  # noqa: E712 - nothing co-occurs with 5
    assert made.popularity.tolist() == [3, 2, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(made.log_popularity, np.log1p(made.popularity), rtol=1e-6)


def test_no_more_neighbours_are_kept_than_asked_for():
    past = leave_one_out(random_sequences(users=60, items=20, seed=4))
    made = count_relations(training_events(past, 20), {}, CandidateRankerParams(content=(), neighbours=3))
    for name, relation in made.counted.items():
        assert np.diff(relation.indptr).max() <= 3, name
