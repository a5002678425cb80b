"""Each counting recommender: answers known by hand, obvious data, and what must not matter."""

import numpy as np
import polars as pl
import pytest
from tests.unit.counting.cases import checkerboard, leave_one_out, random_sequences

from sidflow.core.errors import InputError
from sidflow.counting.cooccurrence import (
    ContentParams,
    CooccurrenceParams,
    choose_content,
    choose_cooccurrence,
    content_factors,
    cooccurrence_factors,
    cooccurrence_relation,
)
from sidflow.counting.cooccurrence_both_ways import METHOD as BOTH_WAYS
from sidflow.counting.ease import ease_factors, ease_weights, keep_largest
from sidflow.counting.item_knn import item_knn_factors, item_similarity
from sidflow.counting.search import METRIC, dense_ranks, mean_ndcg
from sidflow.counting.simple import markov_factors, oracle_factors, popularity_factors
from sidflow.sequences.cooccurrence import training_events

WINDOWED = {"window": 3, "decay": 1.0, "last": 2, "recency": 1.0, "backward": 0.0, "damping": 0.0}


def every(histories):
    return np.arange(histories.query_count)


def made(name, histories, items):
    fit = training_events(histories, items)
    return {
        "popularity": lambda: popularity_factors(histories, fit),
        "markov": lambda: markov_factors(histories, fit),
        "cooccurrence": lambda: cooccurrence_factors(histories, fit, WINDOWED),
        "item_knn": lambda: item_knn_factors(histories, fit, {"neighbours": 50, "shrink": 1.0}),
        "ease": lambda: ease_factors(histories, fit, {"ridge": 2.0, "kept": 100}),
    }[name]()


def test_popularity_counts_training_events_only():
    histories = leave_one_out([[0, 0, 1, 2, 2], [0, 3, 2, 2]])
    scores = made("popularity", histories, 5).scores(every(histories))
    assert (scores == [3, 1, 0, 1, 0]).all()


def test_markov_follows_the_last_item_and_popularity_breaks_what_is_left():
    histories = leave_one_out([[0, 1, 3, 4], [0, 1, 3, 4], [0, 2, 3, 4], [2, 0, 1, 4], [2, 3, 3, 3]])
    scores = made("markov", histories, 5).scores(every(histories))
    # training: 0 1 | 0 1 | 0 2 | 2 0 | 2 3; after 0: 1 twice, 2 once; popularity 4 2 3 1 0
    after_zero = scores[6]
    assert np.floor(after_zero).tolist() == [0, 2, 1, 0, 0]
    assert np.argsort(-after_zero).tolist() == [1, 2, 0, 3, 4]
    assert np.argsort(-scores[7])[0] == 0  # nothing ever followed 1: popularity alone


def test_cooccurrence_by_hand():
    histories = leave_one_out([[0, 1, 2, 3, 9, 9], [4, 0, 1, 9, 9]])
    scores = made("cooccurrence", histories, 10).scores(every(histories))
    third = 43 / 128  # 1/3 in multiples of 1/128
    # validation of user 1 sees 4 0 1: 1 counts once, 0 half; after 1: 2 (1), 3 (1/2); after 0: 1 (2), 2 (1/2), 3 (1/3)
    expected = {1: 0.5 * 2, 2: 1 + 0.5 * 0.5, 3: 0.5 + 0.5 * third, 0: 0, 4: 0, 9: 0}
    for item, value in expected.items():
        assert value <= scores[2][item] < value + 2.0**-14


def test_backward_and_damping_by_hand():
    histories = leave_one_out([[0, 1, 9, 9], [0, 2, 9, 9], [0, 1, 9, 9], [0, 3, 9, 9], [1, 0, 9, 9]])
    setting = {**WINDOWED, "window": 1, "last": 1, "backward": 0.5, "damping": 0.5}
    found = cooccurrence_relation(training_events(histories, 10), setting).toarray()
    # 0 stands in 5 events, 1 in 3; 0 -> 1 twice and 1 -> 0 once
    assert found[0, 1] == pytest.approx((2 + 0.5) / 5**0.5, abs=1 / 256)
    assert found[1, 0] == pytest.approx((1 + 1.0) / 3**0.5, abs=1 / 256)


def test_both_ways_no_pair_depends_on_its_order():
    sequences = random_sequences(users=30, items=15, seed=6)
    turned = [np.concatenate([sequence[:-2][::-1], sequence[-2:]]) for sequence in sequences]
    choice = BOTH_WAYS.choose(leave_one_out(sequences), 15, BOTH_WAYS.params(dampings=(0.0,)))
    assert {trial["backward"] for trial in choice.trials} == {1.0}
    one, two = (
        cooccurrence_relation(training_events(leave_one_out(lines), 15), choice.setting).toarray()
        for lines in (sequences, turned)
    )
    assert np.array_equal(one, two) and np.array_equal(one, one.T)
    forward = choice.setting | {"backward": 0.25}
    assert not np.array_equal(
        one, cooccurrence_relation(training_events(leave_one_out(sequences), 15), forward).toarray()
    )


@pytest.mark.parametrize("name", ["markov", "cooccurrence", "item_knn", "ease"])
def test_on_a_checkerboard_only_the_own_colour_is_recommended(name):
    histories = leave_one_out(checkerboard(users=200))
    scores = made(name, histories, 12).scores(every(histories))
    scores[histories.seen(12).toarray()] = -np.inf
    assert (scores.argmax(axis=1) % 2 == histories.query_user % 2).mean() == 1


@pytest.mark.parametrize("name", ["popularity", "markov", "cooccurrence", "item_knn", "ease"])
def test_other_item_ids_give_the_same_scores_elsewhere(name):
    sequences, items = random_sequences(), 15
    renamed = np.random.default_rng(3).permutation(items)
    first, second = leave_one_out(sequences), leave_one_out([renamed[sequence] for sequence in sequences])
    before = made(name, first, items).scores(every(first))
    after = made(name, second, items).scores(every(second))
    assert np.allclose(before, after[:, renamed], rtol=0, atol=1e-5 if name == "ease" else 0)


@pytest.mark.parametrize("name", ["popularity", "markov", "cooccurrence", "item_knn", "ease"])
def test_held_out_items_change_no_fit(name):
    sequences = random_sequences()
    other = [np.concatenate([sequence[:-2], [0, 0]]) for sequence in sequences]
    first, second = (leave_one_out(case) for case in (sequences, other))
    valid = np.flatnonzero(first.query_valid)
    assert (made(name, first, 15).scores(valid) == made(name, second, 15).scores(valid)).all()


def test_knn_similarity_by_hand_and_only_the_strongest_kept():
    histories = leave_one_out([[0, 1, 9, 9], [0, 1, 2, 9, 9], [2, 0, 9, 9], [0, 9, 9]])
    found = item_similarity(training_events(histories, 10), {"neighbours": 9, "shrink": 1.0}).toarray()
    assert found[0, 1] == pytest.approx(2 / (np.sqrt(4 * 2) + 1), abs=2**-14)
    assert found[1, 2] == pytest.approx(1 / (np.sqrt(2 * 2) + 1), abs=2**-14)
    assert (np.diag(found) == 0).all()
    one = item_similarity(training_events(histories, 10), {"neighbours": 1, "shrink": 1.0}).toarray()
    assert (np.count_nonzero(one, axis=0)[:3] == 1).all()
    assert one[0, 1] == found[0, 1]


def test_ease_solves_the_ridge_regression_of_each_item_on_the_others():
    histories, items = leave_one_out(random_sequences(users=40)), 15
    fit = training_events(histories, items)
    had, found = fit.incidence().toarray().astype(np.float64), ease_weights(fit, 3.0)
    for item in range(items):
        others = np.delete(np.arange(items), item)
        gram = had[:, others].T @ had[:, others] + 3.0 * np.eye(items - 1)
        alone = np.linalg.solve(gram, had[:, others].T @ had[:, item])
        assert np.allclose(found[others, item], alone, atol=2.0**-20)
        assert found[item, item] == 0


def test_ease_keeps_the_largest_weights_of_every_column():
    dense = np.array([[0, 3, -1], [-2, 0, 4], [1, 0.5, 0]], dtype=np.float32)
    assert keep_largest(dense, 1).toarray().tolist() == [[0, 3, 0], [-2, 0, 4], [0, 0, 0]]
    assert (keep_largest(dense, 3).toarray() == dense).all()


def test_content_adds_the_weighted_cosine():
    histories, items = leave_one_out(random_sequences()), 15
    vectors = np.random.default_rng(5).normal(size=(items, 4)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    fit, setting = training_events(histories, items), {**WINDOWED, "content": 0.75}
    plain = cooccurrence_factors(histories, fit, WINDOWED).scores(every(histories))
    found = content_factors(histories, fit, setting, unit).scores(every(histories))
    for query in (0, 7, 20):
        history = histories.history(query)
        expected = sum(w * unit @ unit[item] for w, item in zip([1, 0.5], history[::-1][:2], strict=False))
        assert np.allclose(found[query] - plain[query], 0.75 * expected, atol=1e-5)


def test_content_is_chosen_where_it_tells_and_left_out_where_it_does_not():
    sequences = checkerboard(users=60, items=24, length=4)
    histories = leave_one_out(sequences)
    colour = np.eye(2, dtype=np.float32)[np.arange(24) % 2]
    params = ContentParams(features="-", lasts=(2,), windows=(2,))
    telling = choose_content(histories, 24, params, colour)
    assert telling.setting["content"] > 0
    silent = choose_content(histories, 24, params, np.zeros((24, 2), dtype=np.float32))
    assert silent.setting["content"] == 0
    weighed = [trial for trial in telling.trials if "content" in trial]
    assert max(weighed, key=lambda trial: trial[METRIC])["content"] == telling.setting["content"]


def test_the_chosen_setting_has_the_validation_figure_that_its_factors_have():
    histories, items = leave_one_out(checkerboard(users=60, items=20, length=6)), 20
    choice = choose_cooccurrence(histories, items, CooccurrenceParams())
    valid = np.flatnonzero(histories.query_valid)
    scores = cooccurrence_factors(histories, training_events(histories, items), choice.setting).scores(valid)
    ranks = dense_ranks(scores, histories.seen(items, valid), histories.targets[valid])
    assert mean_ndcg(ranks) == max(trial[METRIC] for trial in choice.trials)


def test_each_trial_has_the_validation_figure_of_its_own_setting():
    histories, items = leave_one_out(random_sequences(users=60, seed=4)), 15
    choice = choose_cooccurrence(histories, items, CooccurrenceParams())
    valid, events = np.flatnonzero(histories.query_valid), training_events(histories, items)
    for trial in choice.trials:
        scores = cooccurrence_factors(histories, events, trial).scores(valid)
        ranks = dense_ranks(scores, histories.seen(items, valid), histories.targets[valid])
        assert trial[METRIC] == mean_ndcg(ranks)


def truth_of(histories, items, probabilities):
    width = pl.Array(pl.Float32, items)
    return pl.DataFrame(
        {
            "user_id": pl.Series(histories.query_user, dtype=pl.Int32),
            "position": pl.Series(histories.query_end, dtype=pl.Int32),
            "probabilities": pl.Series(probabilities.tolist(), dtype=width),
        }
    )


def test_the_oracle_answers_every_query_with_its_own_probabilities():
    histories = leave_one_out(random_sequences(users=6))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(15), histories.query_count).astype(np.float32)
    shuffled = truth_of(histories, 15, probabilities).sample(fraction=1, shuffle=True, seed=1)
    assert (oracle_factors(histories, shuffled, 15).scores(every(histories)) == probabilities).all()


def test_without_a_truth_the_oracle_ties_all_and_with_gaps_it_refuses():
    histories = leave_one_out(random_sequences(users=6))
    whole = truth_of(histories, 15, np.full((histories.query_count, 15), 1 / 15, np.float32))
    assert (oracle_factors(histories, whole.head(0), 15).scores(every(histories)) == 0).all()
    with pytest.raises(InputError, match="1 queries without"):
        oracle_factors(histories, whole.head(histories.query_count - 1), 15)
    with pytest.raises(InputError, match="15 items"):
        oracle_factors(histories, whole, 14)
