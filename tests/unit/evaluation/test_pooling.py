"""The pooled effect against hand-worked and published ones."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from sidflow.evaluation.pooling import pool_effects
from sidflow.evaluation.statistics import verdict_on_gain


def test_three_data_sets_by_hand():
    pooled = pool_effects(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5]))
    # weights 4 each; Q = 4 * (1 + 0 + 1) = 8; C = 12 - 48 / 12 = 8; tau^2 = (8 - 2) / 8; I^2 = (8 - 2) / 8
    assert pooled.tau_squared == pytest.approx(0.75)
    assert pooled.i_squared == pytest.approx(0.75)
    # new weights 1 / (0.25 + 0.75) = 1; q = (1 + 0 + 1) / 2 = 1; error = sqrt(1 / 3); t with 2 degrees: 4.3027
    assert pooled.difference == pytest.approx(1)
    assert pooled.standard_error == pytest.approx(1 / np.sqrt(3))
    assert pooled.low == pytest.approx(1 - 4.30265 / np.sqrt(3), abs=1e-4)
    assert pooled.high == pytest.approx(1 + 4.30265 / np.sqrt(3), abs=1e-4)
    assert pooled.p == pytest.approx(2 * student.sf(np.sqrt(3), 2))
    assert pooled.normal == pytest.approx((1 - 1.95996 / np.sqrt(3), 1 + 1.95996 / np.sqrt(3)), abs=1e-4)
    assert pooled.detectable == pytest.approx((4.30265 + 1.06066) / np.sqrt(3), abs=1e-4)


def test_unequal_errors_by_hand():
    pooled = pool_effects(np.array([0.1, 0.5]), np.array([0.1, 0.2]))
    # weights 100, 25: fixed mean 0.18; Q = 100 * 0.0064 + 25 * 0.1024 = 3.2; C = 125 - 10625 / 125 = 40
    assert pooled.tau_squared == pytest.approx(2.2 / 40)
    assert pooled.i_squared == pytest.approx(2.2 / 3.2)
    # weights 1 / 0.065 and 1 / 0.095
    mean = (0.1 / 0.065 + 0.5 / 0.095) / (1 / 0.065 + 1 / 0.095)
    assert pooled.difference == pytest.approx(mean)
    around = (0.1 - mean) ** 2 / 0.065 + (0.5 - mean) ** 2 / 0.095
    assert pooled.standard_error == pytest.approx(np.sqrt(max(1, around) / (1 / 0.065 + 1 / 0.095)))
    assert (pooled.low, pooled.high) == pytest.approx(
        (mean - 12.7062 * pooled.standard_error, mean + 12.7062 * pooled.standard_error), abs=1e-4
    )


def test_data_sets_that_agree_give_the_fixed_estimate_and_no_narrower_interval():
    pooled = pool_effects(np.full(4, 0.3), np.array([0.1, 0.1, 0.2, 0.2]))
    assert (pooled.tau_squared, pooled.i_squared, pooled.difference) == pytest.approx((0, 0, 0.3))
    assert pooled.standard_error == pytest.approx(1 / np.sqrt(100 + 100 + 25 + 25))


def test_one_data_set_says_nothing_of_others():
    pooled = pool_effects(np.array([0.3]), np.array([0.01]))
    assert (pooled.difference, pooled.data_sets) == (0.3, 1)
    assert (pooled.low, pooled.high) == (-np.inf, np.inf)
    assert np.isnan(pooled.tau_squared) and np.isnan(pooled.i_squared)
    assert verdict_on_gain(pooled, pooled.p, 0.04) == "undecided"


def test_a_data_set_of_great_error_hardly_counts():
    two = pool_effects(np.array([0.1, 0.12]), np.array([0.02, 0.02]))
    three = pool_effects(np.array([0.1, 0.12, 5.0]), np.array([0.02, 0.02, 1e6]))
    assert three.difference == pytest.approx(two.difference, abs=1e-4)


def test_no_error_and_no_data_set_are_refused():
    for effects, errors in (([], []), ([0.1, 0.2], [0.1, 0.0]), ([0.1, 0.2], [0.1, np.nan])):
        with pytest.raises(ValueError, match="above 0"):
            pool_effects(np.array(effects), np.array(errors))


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_the_interval_covers_the_mean_over_data_sets_as_often_as_it_says(between):
    generator, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(1_000):
        errors = generator.uniform(0.05, 0.3, 4)
        effects = 0.2 + between * generator.normal(size=4) + errors * generator.normal(size=4)
        pooled = pool_effects(effects, errors)
        covered += pooled.low <= 0.2 <= pooled.high
        weights = 1 / errors**2
        off = abs(np.average(effects, weights=weights) - 0.2)
        naive += off <= norm.ppf(0.975) / np.sqrt(weights.sum())
    assert covered >= 930
    assert between == 0 or naive < 700  # which is why the data sets' disagreement has to count


# Log risk ratios of tuberculosis after BCG in 13 trials, and their variances (Colditz et al. 1994).
BCG = np.array(
    [
        (-0.8893, 0.3256),
        (-1.5854, 0.1946),
        (-1.3481, 0.4154),
        (-1.4416, 0.0200),
        (-0.2175, 0.0512),
        (-0.7861, 0.0069),
        (-1.6209, 0.2230),
        (0.0120, 0.0040),
        (-0.4694, 0.0564),
        (-1.3713, 0.0730),
        (-0.3394, 0.0124),
        (0.4459, 0.5325),
        (-0.0173, 0.0714),
    ]
).T


def test_der_simonian_and_laird_as_published():
    """Published of these trials: tau^2 = .3088, I^2 = 92.1%, -.7141 [-1.0644, -.3638]."""
    pooled = pool_effects(BCG[0], np.sqrt(BCG[1]))
    assert pooled.tau_squared == pytest.approx(0.3088, abs=2e-3)
    assert pooled.i_squared == pytest.approx(0.9212, abs=1e-3)
    assert pooled.difference == pytest.approx(-0.7141, abs=1e-3)
    assert pooled.normal == pytest.approx((-1.0644, -0.3638), abs=2e-3)


def test_knapp_and_hartung_of_the_same_trials():
    """The squared error is the weighted spread around the mean by k - 1, and the interval Student's t: 2.1788 at 12."""
    effects, variances = BCG
    pooled = pool_effects(effects, np.sqrt(variances))
    weights = [1 / (variance + pooled.tau_squared) for variance in variances]
    mean = sum(weight * effect for weight, effect in zip(weights, effects, strict=True)) / sum(weights)
    spread = sum(weight * (effect - mean) ** 2 for weight, effect in zip(weights, effects, strict=True))
    error = (spread / 12 / sum(weights)) ** 0.5
    assert spread / 12 > 1  # else the error of effects that agree would be taken
    assert pooled.standard_error == pytest.approx(error)
    assert pooled.low == pytest.approx(mean - 2.17881 * error, abs=1e-5)
    assert pooled.high == pytest.approx(mean + 2.17881 * error, abs=1e-5)
    assert pooled.low < pooled.normal[0] and pooled.high > pooled.normal[1]
    assert pooled.p == pytest.approx(2 * student.sf(-mean / error, 12))
    assert pooled.data_sets == 13
