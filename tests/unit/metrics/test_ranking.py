import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidflow.metrics import ranking


def naive(rank: int, metric: str, k: int) -> float:
    if rank > k:
        return 0.0
    return {"recall": 1.0, "ndcg": 1 / math.log2(rank + 1), "mrr": 1 / rank}[metric]


@given(st.lists(st.integers(1, 60), min_size=1), st.sampled_from(ranking.METRICS), st.integers(1, 25))
def test_gains_equal_the_definition(ranks, metric, k):
    expected = [naive(rank, metric, k) for rank in ranks]
    np.testing.assert_allclose(ranking.metric_at_k(np.array(ranks), metric, k), expected)


@pytest.mark.parametrize("metric", ranking.METRICS)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_shared_rank_earns_the_mean_over_its_tie(metric, k):
    ranks, sharing = np.array([1, 3, 5, 12, 9, 40]), np.array([0, 2, 1, 4, 0, 3])
    expected = [
        np.mean([ranking.metric_at_k(np.array([rank - back]), metric, k)[0] for back in range(shared + 1)])
        for rank, shared in zip(ranks, sharing, strict=True)
    ]
    np.testing.assert_allclose(ranking.metric_at_k(ranks, metric, k, sharing), expected, rtol=1e-12)
    assert (ranking.metric_at_k(ranks, metric, k, np.zeros_like(ranks)) == ranking.metric_at_k(ranks, metric, k)).all()


def test_ndcg_equals_sklearns():
    from sklearn.metrics import ndcg_score

    scores = np.random.default_rng(0).normal(size=(50, 30))
    target = np.random.default_rng(1).integers(30, size=50)
    relevance = np.eye(30)[target]
    ranks = 1 + (scores > scores[np.arange(50), target][:, None]).sum(axis=1)
    assert ranking.metric_at_k(ranks, "ndcg", 10).mean() == pytest.approx(ndcg_score(relevance, scores, k=10))


def test_random_ranking_gets_its_expectation():
    ranks = np.random.default_rng(0).integers(1, 101, size=200_000)
    assert ranking.metric_at_k(ranks, "recall", 10).mean() == pytest.approx(0.1, abs=0.003)
    assert ranking.metric_at_k(ranks, "mrr", 10).mean() == pytest.approx(
        sum(1 / r for r in range(1, 11)) / 100, abs=0.001
    )


def test_expected_is_the_mean_over_targets_drawn_from_the_truth():
    generator = np.random.default_rng(0)
    truth = generator.dirichlet(np.ones(12), size=3).astype(np.float32)
    lists = np.array([generator.permutation(12)[:8] for _ in range(3)])
    for metric in ranking.METRICS:
        for k in (3, 5, 8):
            by_hand = [
                sum(truth[q, item] * naive(place + 1, metric, k) for place, item in enumerate(lists[q]))
                for q in range(3)
            ]
            np.testing.assert_allclose(ranking.expected_metric_at_k(lists, truth, metric, k), by_hand, rtol=1e-6)


def test_nothing_beats_the_best_and_the_true_order_reaches_it():
    truth = np.random.default_rng(0).dirichlet(np.ones(30), size=20).astype(np.float32)
    right = np.argsort(-truth, axis=1)
    wrong = np.random.default_rng(1).permuted(right, axis=1)
    for metric in ranking.METRICS:
        best = ranking.best_expected_metric_at_k(truth, metric, 10)
        np.testing.assert_allclose(ranking.expected_metric_at_k(right, truth, metric, 10), best, rtol=1e-6)
        assert (ranking.expected_metric_at_k(wrong, truth, metric, 10) <= best + 1e-7).all()


def test_short_lists_and_small_catalogues_earn_what_is_there():
    truth = np.array([[0.5, 0.25, 0.25]], dtype=np.float32)
    assert ranking.expected_metric_at_k(np.array([[0, -1, -1, -1]]), truth, "recall", 10)[0] == pytest.approx(0.5)
    assert ranking.best_expected_metric_at_k(truth, "recall", 10)[0] == pytest.approx(1)


@pytest.mark.parametrize(("counts", "expected"), [([5, 5, 5, 5], 0), ([0, 0, 0, 8], 0.75), ([1, 3], 0.25), ([0, 0], 0)])
def test_gini(counts, expected):
    assert ranking.gini(np.array(counts, dtype=np.float64)) == pytest.approx(expected)


def test_exposure():
    lists = np.array([[0, 1], [0, 2], [0, -1]])
    counts = ranking.exposure_counts(lists, 5)
    assert counts.tolist() == [3, 1, 1, 0, 0]
    assert ranking.catalogue_coverage(counts) == pytest.approx(3 / 5)
    assert ranking.catalogue_coverage(counts[:0]) == 0
    pairs = np.abs(counts[:, None] - counts[None]).sum()
    assert ranking.gini(counts) == pytest.approx(pairs / (2 * 5 * counts.sum()))
    assert ranking.gini(np.ones(7)) == pytest.approx(0)
    assert ranking.novelty(np.array([[0]]), np.array([3, 3])) == pytest.approx(1)
