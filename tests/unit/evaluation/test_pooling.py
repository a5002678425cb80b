"""The random-effects estimate against arithmetic by hand and against what it promises."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from sidflow.evaluation import statistics
from sidflow.evaluation.statistics import pool_effects


def test_three_data_sets_by_hand():
    found = pool_effects(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5]))
    # weights 4 each; Q = 4 * (1 + 0 + 1) = 8; C = 12 - 48 / 12 = 8; tau^2 = (8 - 2) / 8; I^2 = (8 - 2) / 8
    assert found.tau_squared == pytest.approx(0.75)
    assert found.i_squared == pytest.approx(0.75)
    # new weights 1 / (0.25 + 0.75) = 1; q = (1 + 0 + 1) / 2 = 1; error = sqrt(1 / 3); t with 2 degrees: 4.3027
    assert found.difference == pytest.approx(1)
    assert found.standard_error == pytest.approx(1 / np.sqrt(3))
    assert found.low == pytest.approx(1 - 4.30265 / np.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(1 + 4.30265 / np.sqrt(3), abs=1e-4)
    assert found.p == pytest.approx(2 * student.sf(np.sqrt(3), 2))
    assert found.normal == pytest.approx((1 - 1.95996 / np.sqrt(3), 1 + 1.95996 / np.sqrt(3)), abs=1e-4)
    assert found.detectable == pytest.approx((4.30265 + 1.06066) / np.sqrt(3), abs=1e-4)


def test_unequal_errors_by_hand():
    found = pool_effects(np.array([0.1, 0.5]), np.array([0.1, 0.2]))
    # weights 100, 25: fixed mean 0.18; Q = 100 * 0.0064 + 25 * 0.1024 = 3.2; C = 125 - 10625 / 125 = 40
    assert found.tau_squared == pytest.approx(2.2 / 40)
    assert found.i_squared == pytest.approx(2.2 / 3.2)
    # weights 1 / 0.065 and 1 / 0.095
    mean = (0.1 / 0.065 + 0.5 / 0.095) / (1 / 0.065 + 1 / 0.095)
    assert found.difference == pytest.approx(mean)
    around = (0.1 - mean) ** 2 / 0.065 + (0.5 - mean) ** 2 / 0.095
    assert found.standard_error == pytest.approx(np.sqrt(max(1, around) / (1 / 0.065 + 1 / 0.095)))
    assert (found.low, found.high) == pytest.approx(
        (mean - 12.7062 * found.standard_error, mean + 12.7062 * found.standard_error), abs=1e-4
    )


def test_data_sets_that_agree_give_the_fixed_estimate_and_no_narrower_interval():
    found = pool_effects(np.full(4, 0.3), np.array([0.1, 0.1, 0.2, 0.2]))
    assert (found.tau_squared, found.i_squared, found.difference) == pytest.approx((0, 0, 0.3))
    assert found.standard_error == pytest.approx(1 / np.sqrt(100 + 100 + 25 + 25))


def test_one_data_set_says_nothing_of_others():
    found = pool_effects(np.array([0.3]), np.array([0.01]))
    assert (found.difference, found.data_sets) == (0.3, 1)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert np.isnan(found.tau_squared) and np.isnan(found.i_squared)
    assert statistics.verdict_on_gain(found, found.p, 0.04) == "undecided"


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
        found = pool_effects(effects, errors)
        covered += found.low <= 0.2 <= found.high
        weights = 1 / errors**2
        off = abs(np.average(effects, weights=weights) - 0.2)
        naive += off <= norm.ppf(0.975) / np.sqrt(weights.sum())
    assert covered >= 930
    assert between == 0 or naive < 700  # which is why the data sets' disagreement has to count
