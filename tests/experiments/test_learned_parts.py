"""How much of each part of the truth scores hold: coefficients by hand, whatever the scale of the scores."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments/benchmarks"


@pytest.fixture
def learned_parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import learned_parts

    return learned_parts


@pytest.fixture
def truth(learned_parts):
    generator = np.random.default_rng(0)
    parts = generator.normal(size=(len(learned_parts.PARTS), 400, 30))
    logits = parts.sum(0)
    logits[generator.random(logits.shape) < 0.2] = -np.inf  # no candidates
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = (probabilities.cumsum(1) > generator.random((400, 1))).argmax(1)
    return learned_parts.Truth(np.arange(400), targets, probabilities, parts)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_coefficients_of_a_sum_of_parts_are_its_own_whatever_the_scale(learned_parts, truth, scale):
    shares = dict(zip(learned_parts.PARTS, (1, 0.5, 0, 1, 1, 0.25, 1), strict=True))
    scores = sum(share * part for share, part in zip(shares.values(), truth.parts, strict=True))
    own = np.arange(400)[:, None]  # a constant of each query says nothing
    measured = learned_parts.learned(truth, scale * scores + own)
    whole = measured["popularity"]
    assert whole == pytest.approx(1, abs=0.25)
    assert {name: measured[name] / whole for name in shares} == pytest.approx(shares, abs=0.01)
    assert measured["rest"] == pytest.approx(0, abs=0.001)


def test_scores_that_hold_no_part_are_all_rest(learned_parts, truth):
    noise = np.random.default_rng(1).normal(size=truth.probabilities.shape)
    measured = learned_parts.learned(truth, noise)
    assert measured["rest"] > 0.95 and all(abs(measured[name]) < 0.1 for name in learned_parts.PARTS)
    oracle = learned_parts.learned(truth, truth.parts.sum(0))
    assert oracle["log_likelihood"] > measured["log_likelihood"] + 0.5


def test_the_oracle_has_the_highest_expected_ndcg_and_loses_by_every_part(learned_parts, truth):
    whole = truth.parts.sum(0)
    best = learned_parts.expected_ndcg(truth, whole)
    assert all(learned_parts.expected_ndcg(truth, whole - part) < best for part in truth.parts)
    order = np.argsort(-np.where(truth.probabilities > 0, whole, -np.inf)[0])
    by_hand = sum(truth.probabilities[0, item] / np.log2(rank + 2) for rank, item in enumerate(order[:10]))
    one = learned_parts.Truth(*(part[:1] for part in truth[:3]), truth.parts[:, :1])
    assert learned_parts.expected_ndcg(one, whole[:1]) == pytest.approx(by_hand)
