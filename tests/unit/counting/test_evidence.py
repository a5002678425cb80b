"""Ties, events, pairs, ranks and the search: what all counting recommenders stand on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random_array
from tests.unit.counting.cases import leave_one_out, random_sequences

from sidflow.artifacts.recommenders import ScoreFactors, by_part
from sidflow.counting.search import METRIC, coordinate_search, dense_ranks, mean_ndcg, sparse_ranks, validation_set
from sidflow.sequences.cooccurrence import (
    SCORE_STEP,
    WEIGHT_BITS,
    cooccurrence_counts,
    decaying_weights,
    strongest_per_row,
    tie_breaks,
    training_events,
)
from sidflow.sequences.histories import Histories


def test_weights_are_multiples_of_a_power_of_two_and_stay_positive():
    weights = decaying_weights(1000, 2.0)
    assert weights.dtype == np.float32 and weights[0] == 1
    assert weights[2] == round(128 / 9) / 128
    assert (weights > 0).all()
    assert (weights * 2**WEIGHT_BITS == np.round(weights * 2**WEIGHT_BITS)).all()


@given(
    st.lists(st.integers(0, 1_000_000), min_size=2, max_size=20),
    st.lists(st.integers(0, 2**16), min_size=20, max_size=20),
)
def test_popularity_never_reorders_scores_even_in_float32(popularity, steps):
    tie = tie_breaks(np.array(popularity), SCORE_STEP)
    assert (tie >= 0).all()
    assert (tie < SCORE_STEP).all()
    scores = np.array(steps[: len(tie)], dtype=np.float64) * SCORE_STEP
    total = scores.astype(np.float32) + tie
    for first in range(len(tie)):
        for second in range(len(tie)):
            if scores[first] > scores[second] or (
                scores[first] == scores[second] and popularity[first] > popularity[second]
            ):
                assert total[first] >= total[second]


def test_popularity_decides_between_equals_where_float32_has_room():
    tie = tie_breaks(np.array([3, 400, 401]), 1.0)
    assert (np.argsort(np.float32(50) + tie) == [0, 1, 2]).all()
    assert len(set(np.float32(50) + tie)) == 3


def test_events_before_the_test_hold_the_validation_target_and_no_test_target():
    histories = leave_one_out([[0, 1, 2, 3], [4, 5, 6]])
    assert training_events(histories, 7).item.tolist() == [0, 1, 4]
    assert training_events(histories.before_test(), 7).item.tolist() == [0, 1, 2, 4, 5]


def test_of_equal_entries_of_a_row_those_of_lower_columns_are_kept():
    matrix = csr_matrix(np.array([[1, 2, 1, 1], [0, 0, 3, 0], [5, 5, 5, 5]], dtype=np.float32))
    assert strongest_per_row(matrix, 2).toarray().tolist() == [[1, 2, 0, 0], [0, 0, 3, 0], [5, 5, 0, 0]]


def test_who_had_an_item_twice_had_it():
    events = training_events(leave_one_out([[0, 1, 0, 2, 2], [1, 1, 0, 2]]), 3)
    assert events.incidence().toarray().tolist() == [[1, 1, 0], [0, 1, 0]]
    assert events.counts().tolist() == [2, 3, 0]


def test_events_before_the_test_of_users_with_several_or_no_queries():
    histories = Histories(
        items=np.arange(12, dtype=np.int32),
        offsets=np.array([0, 6, 9, 12]),
        train_end=np.array([2, 1, 3]),
        query_user=np.array([0, 0, 0, 0, 1]),
        query_end=np.array([2, 3, 4, 5, 1]),
        query_valid=np.array([True, True, False, False, True]),
        targets=np.array([2, 3, 4, 5, 7]),
    )
    assert training_events(histories.before_test(), 12).item.tolist() == [0, 1, 2, 3, 6, 7, 9, 10, 11]


def slow_pairs(sequences, items, weights, backward):
    total = np.zeros((items, items))
    for sequence in sequences:
        for start, first in enumerate(sequence):
            for distance, weight in enumerate(weights, start=1):
                if start + distance < len(sequence):
                    second = sequence[start + distance]
                    total[first, second] += weight
                    total[second, first] += weight * backward
    return total


@pytest.mark.parametrize("backward", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("window", [1, 3, 50])
def test_cooccurrence_equals_a_loop_over_pairs(backward, window):
    sequences = random_sequences()
    histories = leave_one_out(sequences)
    weights = decaying_weights(window, 1.0)
    found = cooccurrence_counts(training_events(histories, 15), weights, backward)
    expected = slow_pairs([s[:-2] for s in sequences], 15, weights, backward)
    assert (found.toarray() == expected).all()


def slow_ranks(scores, seen, targets):
    ranks = []
    for row, excluded, target in zip(scores, seen, targets, strict=True):
        others = [i for i in range(len(row)) if i != target and not excluded[i]]
        ranks.append(len(row) + 1 if excluded[target] else 1 + sum(row[i] >= row[target] for i in others))
    return np.array(ranks)


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_both_rankings_equal_a_loop_over_items(seed):
    generator = np.random.default_rng(seed)
    queries, items = 12, 9
    scores = csr_matrix(random_array((queries, items), density=0.4, rng=generator))
    scores.data = generator.integers(1, 4, scores.nnz).astype(np.float32)
    seen = csr_matrix(generator.random((queries, items)) < 0.2)
    tie = tie_breaks(generator.integers(0, 5, items), 1.0)
    targets = generator.integers(0, items, queries)
    expected = slow_ranks(scores.toarray() + tie, seen.toarray(), targets)
    assert (sparse_ranks(scores, tie, seen, targets) == expected).all()
    assert (dense_ranks(scores.toarray() + tie, seen, targets) == expected).all()


def test_ndcg_by_hand():
    assert mean_ndcg(np.array([1, 3, 10, 11])) == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4)
    assert mean_ndcg(np.array([], dtype=int)) == 0


def test_the_search_climbs_keeps_every_trial_and_the_earlier_of_equals():
    grid = {"a": (1, 2, 3), "b": (0, 5, 9)}
    choice = coordinate_search(grid, lambda s: -((s["a"] - 3) ** 2) + (s["b"] >= 5))
    assert choice.setting == {"a": 3, "b": 5}
    assert len({tuple(trial.values()) for trial in choice.trials}) == len(choice.trials)
    assert max(trial[METRIC] for trial in choice.trials) == 1


def test_the_search_returns_to_a_knob_that_another_changed():
    score = {(0, 0): 1, (1, 0): 0, (0, 1): 2, (1, 1): 3}
    assert coordinate_search({"a": (0, 1), "b": (0, 1)}, lambda s: score[s["a"], s["b"]]).setting == {"a": 1, "b": 1}


def test_a_sample_of_validation_queries_is_spread_and_unique():
    histories = leave_one_out(random_sequences(users=50))
    every = validation_set(histories, 15, 50).queries
    assert (every == np.arange(0, 100, 2)).all()
    some = validation_set(histories, 15, 7).queries
    assert len(set(some)) == 7
    assert histories.query_valid[some].all()
    assert (some[0], some[-1]) == (0, 98)


def test_each_part_is_answered_from_its_own_fit():
    generator = np.random.default_rng(0)

    def some():
        sparse = [csr_matrix(generator.integers(0, 3, shape).astype(np.float32)) for shape in ((6, 4), (4, 5))]
        dense = [generator.normal(size=shape).astype(np.float32) for shape in ((6, 2), (5, 2))]
        return ScoreFactors(*dense, *sparse)

    first, second, every = some(), some(), np.arange(6)
    valid = np.array([True, False, True, False, False, True])
    joined = by_part(valid, first, second).scores(every)
    assert np.allclose(joined[valid], first.scores(every)[valid])
    assert np.allclose(joined[~valid], second.scores(every)[~valid])
