import numpy as np
import pytest
from scipy.stats import kendalltau

from sidflow.metrics.geometry import tau_over_histories, tau_over_triples


def _space(n: int = 40, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_the_same_space_has_tau_one_and_a_rotation_changes_nothing():
    space = _space()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    histories = [np.arange(10), np.array([4, 9, 30, 31])]
    for changed in (space, 3 * space, (space.astype(np.float64) @ rotation)):
        found = tau_over_histories(space, changed, histories, np.array([20, 5]))
        assert found.value == pytest.approx(1.0)
        assert (found.references, found.pairs) == (2, 45 + 6)


def test_equals_scipy_on_each_query():
    space, changed = _space(seed=2), _space(seed=3)
    history, target = np.arange(12), 20
    before = np.linalg.norm(space[history] - space[target], axis=1)
    after = np.linalg.norm(changed[history] - changed[target], axis=1)
    expected = kendalltau(before, after).statistic
    assert tau_over_histories(space, changed, [history], np.array([target])).value == pytest.approx(expected)


def test_a_collapsed_space_has_tau_zero_and_a_reversed_line_minus_one():
    line = np.arange(8, dtype=np.float32)[:, None]
    folded = np.array([0, 7, 6, 5, 4, 3, 2, 1], dtype=np.float32)[:, None]
    histories, targets = [np.arange(1, 8)], np.array([0])
    assert tau_over_histories(line, np.zeros_like(line), histories, targets).value == 0
    assert tau_over_histories(line, folded, histories, targets).value == -1
    assert tau_over_triples(line, np.zeros_like(line), np.random.default_rng(0)).value == 0


def test_absent_items_repeats_and_the_target_itself_are_left_out():
    space = _space()
    present = np.ones(40, dtype=bool)
    present[[3, 7]] = False
    found = tau_over_histories(
        space, space, [np.array([1, 1, 2, 3, 9]), np.array([1, 2, 3]), np.array([5])], np.array([9, 7, 2]), present
    )
    assert (found.references, found.pairs) == (1, 1)


def test_no_pair_is_nan_not_a_number_that_looks_real():
    space = _space()
    assert np.isnan(tau_over_histories(space, space, [np.array([1])], np.array([2])).value)
    assert np.isnan(tau_over_triples(space, space, np.random.default_rng(0), np.zeros(40, dtype=bool)).value)


def test_triples_agree_with_brute_force_over_all_of_them():
    space, changed = _space(15, 3, 4), _space(15, 3, 5) * 0.4 + _space(15, 3, 4)
    d0 = ((space[:, None] - space[None]) ** 2).sum(-1)
    d1 = ((changed[:, None] - changed[None]) ** 2).sum(-1)
    signs = [
        np.sign(d0[i, a] - d0[i, b]) * np.sign(d1[i, a] - d1[i, b])
        for i in range(15)
        for a in range(15)
        for b in range(15)
        if len({i, a, b}) == 3
    ]
    found = tau_over_triples(space, changed, np.random.default_rng(6), triples=60_000)
    assert found.value == pytest.approx(np.mean(signs), abs=0.02)
    assert found == tau_over_triples(space, changed, np.random.default_rng(6), triples=60_000)
