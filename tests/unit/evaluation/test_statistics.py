import inspect

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from sidflow.evaluation import statistics
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.pooling import pool_effects
from sidflow.evaluation.statistics import (
    PairedBootstrap,
    bootstrap_difference,
    percentile_interval,
    verdict_on_gain,
)


def test_the_error_is_that_of_users_not_of_queries():
    users = np.repeat(np.arange(400), 5)
    per_user = np.random.default_rng(0).normal(size=400)
    found = statistics.resample_means(per_user[users][:, None], users, 2_000, 1)
    assert found.resampled.std() == pytest.approx(per_user.std() / np.sqrt(400), rel=0.1)


def test_unequal_users_are_a_ratio_of_sums():
    values, users = np.array([[1.0], [0.0], [0.0], [1.0]]), np.array([7, 3, 3, 3])
    found = statistics.resample_means(values, users, 500, 0)
    assert found.mean[0] == 0.5
    assert set(np.round(found.resampled[:, 0], 6)) == {1.0, 0.5, round(1 / 3, 6)}
    again, other = (statistics.resample_means(values, users, 500, seed) for seed in (0, 1))
    assert (again.resampled == found.resampled).all() and (other.resampled != found.resampled).any()


def test_no_queries_have_no_means():
    found = statistics.resample_means(np.zeros((0, 2)), np.zeros(0, dtype=int), 3, 0)
    assert np.isnan(found.mean).all() and found.mean.shape == (2,)
    assert np.isnan(found.resampled).all() and found.resampled.shape == (3, 2)


def test_an_interval_leaves_out_equally_many_resamples_on_both_sides():
    found = statistics.percentile_interval(0.4, np.linspace(0, 1, 1001), 0.9)
    assert found == pytest.approx((0.4, 0.05, 0.95, np.linspace(0, 1, 1001).std(ddof=1)))
    assert statistics.percentile_interval(0.4, np.linspace(0, 1, 1001))[1:3] == pytest.approx((0.025, 0.975))


@pytest.mark.parametrize(("below", "at", "above"), [(30, 0, 969), (969, 0, 30), (20, 10, 969), (400, 200, 399)])
def test_p_counts_the_resamples_beyond_zero_on_the_smaller_side_twice(below, at, above):
    resampled = np.repeat([-1.0, 0.0, 2.0], [below, at, above])
    p = statistics.bootstrap_difference(0.5, resampled, 100).p
    assert p == pytest.approx(min(1, 2 * (min(below, above) + at + 1) / 1000))


def test_a_large_difference_is_shown_among_any_number_of_comparisons():
    """2 / (draws + 1) times 53 is above .05: the number of resamples must not decide."""
    generator = np.random.default_rng(0)
    hard = generator.normal(size=1_500)
    better = {f"better {index}": hard + 0.2 + 0.1 * generator.normal(size=1_500) for index in range(53)}
    made = statistics.PairedBootstrap({"base": hard, **better}, np.arange(1_500), draws=2_000, seed=0)
    compared = made.compare({name: statistics.Pair(name, "base") for name in better}, 0.04)
    assert {comparison.verdict for comparison in compared.values()} == {"shown"}


def test_beyond_the_resamples_p_is_that_of_students_t():
    resampled = np.random.default_rng(0).normal(0.5, 0.1, size=500)
    error = resampled.std(ddof=1)
    assert (resampled > 0).all()
    found = statistics.bootstrap_difference(0.5, resampled, 1_000)
    assert found.p == pytest.approx(2 * student.sf(0.5 / error, 999)) and found.p < 2 / 501
    assert statistics.bootstrap_difference(0.5, np.linspace(0.01, 1, 500), 12).p == 2 / 501  # t is larger


@pytest.mark.parametrize("users", [1, 2, 3, 5])
def test_a_few_users_show_nothing_though_all_their_resamples_agree(users):
    values = {"base": np.zeros(users), "more": np.linspace(0.4, 0.6, users)}
    found = PairedBootstrap(values, np.arange(users), draws=500, seed=0).compare(
        {"more": statistics.Pair("more", "base")}, claimed_gain=0.04
    )["more"]
    assert found.p == 2.0 ** (1 - users) and found.verdict == "undecided"


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_one_user_neither_reaches_nor_excludes_a_claim(value):
    values = {"base": np.full(3, 0.5), "other": np.full(3, value)}
    bootstrap = PairedBootstrap(values, np.zeros(3, dtype=int), draws=500, seed=0)
    found = bootstrap.compare({"other": statistics.Pair("other", "base")}, claimed_gain=0.04)["other"]
    assert (found.p, found.verdict, found.claim) == (1.0, "undecided", "open")


def test_users_without_a_difference_do_not_make_a_few_others_many():
    base = np.zeros(140)
    more = base + (np.arange(140) < 4)
    bootstrap = PairedBootstrap({"base": base, "more": more}, np.arange(140), draws=2_000, seed=0)
    assert bootstrap.difference("more", "base").p == 1 / 8


def test_what_a_few_users_show_by_chance_is_rare():
    generator, found = np.random.default_rng(0), 0
    for _ in range(200):
        values = {"base": np.zeros(4), "other": generator.normal(size=4)}
        bootstrap = PairedBootstrap(values, np.arange(4), draws=200, seed=0)
        found += bootstrap.compare({"": statistics.Pair("other", "base")}, 0.0)[""].verdict in ("shown", "behind")
    assert found <= 20


def test_what_is_detectable_depends_on_level_and_power():
    resampled = np.random.default_rng(0).normal(size=500)
    error = resampled.std(ddof=1)
    for level, power in ((0.95, 0.8), (0.9, 0.8), (0.95, 0.5)):
        found = statistics.bootstrap_difference(0.1, resampled, 100, level, power)
        assert found.detectable == pytest.approx((norm.ppf((1 + level) / 2) + norm.ppf(power)) * error)
        assert (found.difference, found.standard_error) == pytest.approx((0.1, error))


def test_a_bootstrap_keeps_its_level_power_draws_and_seed():
    generator = np.random.default_rng(0)
    values = {"a": generator.random(50), "b": generator.random(50)}
    users = generator.integers(20, size=50)
    made = statistics.PairedBootstrap(values, users, draws=300, seed=3, level=0.8, power=0.6)
    drawn = statistics.resample_means(np.stack([values["a"], values["b"]], 1), users, 300, 3)
    mean, resampled, _ = drawn
    assert made.interval("b") == statistics.percentile_interval(mean[1], resampled[:, 1], 0.8)
    expected = statistics.bootstrap_difference(
        mean[0] - mean[1], resampled[:, 0] - resampled[:, 1], drawn.users, 0.8, 0.6
    )
    assert made.difference("a", "b") == expected


def test_the_level_decides_which_p_is_small_enough():
    values = {"base": np.zeros(40) + 0.5, "more": 0.5 + np.where(np.arange(40) < 24, 0.1, -0.1)}
    verdicts = {}
    for level in (0.5, 0.99):
        made = statistics.PairedBootstrap(values, np.arange(40), draws=500, seed=0, level=level)
        verdicts[level] = made.compare({"more": statistics.Pair("more", "base")}, claimed_gain=0.0)["more"].verdict
    assert verdicts == {0.5: "shown", 0.99: "undecided"}


def test_blocks_and_the_order_of_columns_change_nothing(monkeypatch):
    values = np.random.default_rng(0).normal(size=(60, 3))
    users = np.random.default_rng(1).integers(20, size=60)
    whole = statistics.resample_means(values, users, 300, 5)
    monkeypatch.setattr(statistics, "_BLOCK_BYTES", 16 * 20 * 7)
    np.testing.assert_allclose(
        statistics.resample_means(values[:, ::-1], users, 300, 5).resampled[:, ::-1], whole.resampled
    )


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = 0
    for trial in range(300):
        values = (np.random.default_rng(trial).random((120, 1)) < 0.3).astype(float)
        drawn = statistics.resample_means(values, np.arange(120), 400, trial)
        found = statistics.percentile_interval(drawn.mean[0], drawn.resampled[:, 0])
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_paired_difference_sees_what_unpaired_intervals_hide():
    generator = np.random.default_rng(0)
    hard = generator.normal(size=300)
    values = np.stack([hard + 0.05 + 0.1 * generator.normal(size=300), hard], axis=1)
    drawn = statistics.resample_means(values, np.arange(300), 2_000, 0)
    one, other = (statistics.percentile_interval(drawn.mean[m], drawn.resampled[:, m]) for m in (0, 1))
    assert one.low < other.high
    found = statistics.bootstrap_difference(
        drawn.mean[0] - drawn.mean[1], drawn.resampled[:, 0] - drawn.resampled[:, 1], drawn.users
    )
    assert found.low > 0
    assert found.p < 0.01


def test_no_difference_is_no_finding():
    drawn = np.zeros(1_000)
    found = statistics.bootstrap_difference(0.0, drawn, 100)
    assert found.p == 1
    assert statistics.verdict_on_gain(found, 1.0, 0.04) == "contradicted"
    assert statistics.verdict_on_gain(found, 1.0, 0.0) == "undecided"


def test_what_is_detectable_is_detected_at_the_asked_power():
    error = 0.02
    detectable = statistics.bootstrap_difference(0.0, np.random.default_rng(0).normal(0, error, 20_000), 100).detectable
    assert detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * error, rel=0.02)
    true = np.random.default_rng(1).normal(detectable, error, 20_000)
    assert (true > norm.ppf(0.975) * error).mean() == pytest.approx(0.8, abs=0.02)


def test_holm_by_hand():
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert statistics.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert statistics.holm({}) == {}


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.01, 0.2, 0.01, "shown"),
        (0.01, 0.2, 0.2, "undecided"),
        (-0.1, 0.2, 0.5, "undecided"),
        (-0.1, 0.03, 0.5, "contradicted"),
        (-0.2, -0.1, 0.01, "behind"),
        (-0.2, -0.1, 0.051, "contradicted"),
    ],
)
def test_verdicts(low, high, p, expected):
    assert (
        statistics.verdict_on_gain(statistics.Difference((low + high) / 2, low, high, 0.1, p, 0.1), p, 0.04) == expected
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.04, 0.2, "reached"),
        (0.01, 0.2, "open"),
        (-0.1, 0.04, "open"),
        (0.01, 0.03, "excluded"),
        (-0.2, -0.1, "excluded"),
    ],
)
def test_better_at_all_is_not_as_much_better_as_claimed(low, high, expected):
    found = statistics.Difference((low + high) / 2, low, high, 0.1, 0.001, 0.1)
    assert statistics.verdict_on_claim(found, 0.04) == expected
    assert (statistics.verdict_on_gain(found, 0.001, 0.04) == "shown") == (low > 0)


@pytest.mark.parametrize("p", [0.01, 0.0499, 0.05, 0.051, 1.0])
@pytest.mark.parametrize("low", [-0.1, 0.0, 0.1])
def test_ahead_and_behind_follow_the_same_rule(low, p):
    """Turned round, `shown` is `behind` and the other way round, whatever p; without a claim nothing else differs."""
    gain = statistics.Difference(low + 0.1, low, low + 0.2, 0.1, p, 0.1)
    ahead, turned = (statistics.verdict_on_gain(one, p, None) for one in (gain, statistics.mirrored(gain)))
    assert {"shown": "behind", "undecided": "undecided"}[ahead] == turned
    assert (ahead == "shown") == (low > 0 and p < 0.05)


def test_a_mirrored_difference_is_that_of_the_mirrored_resamples():
    drawn = np.random.default_rng(0).normal(0.3, 1, 500)
    found = statistics.mirrored(statistics.bootstrap_difference(0.3, drawn, 100))
    assert vars(found) == pytest.approx(vars(statistics.bootstrap_difference(-0.3, -drawn, 100)))


@pytest.fixture
def bootstrap():
    """Four recommenders of 200 users: `far` and `near` better than `base` by .2 and .04, `same` equal to it."""
    generator = np.random.default_rng(0)
    base = generator.random(200)
    values = {"base": base, "same": base.copy()}
    values |= {name: base + generator.normal(gain, 0.1, 200) for name, gain in (("far", 0.2), ("near", 0.04))}
    return statistics.PairedBootstrap(values, np.arange(200), draws=2_000, seed=0)


def test_comparisons_are_differences_with_p_corrected_for_their_number(bootstrap):
    pairs = {name: statistics.Pair(name, "base") for name in ("far", "near", "same")}
    together = bootstrap.compare(pairs, claimed_gain=0.2)
    for name, comparison in together.items():
        alone = bootstrap.difference(name, "base")
        assert vars(comparison) | vars(alone) == vars(comparison)
        assert comparison.mean - comparison.baseline_mean == pytest.approx(comparison.difference)
        assert comparison.relative == pytest.approx(comparison.difference / bootstrap.mean("base"))
    corrected = {name: comparison.p_corrected for name, comparison in together.items()}
    assert corrected == statistics.holm({name: comparison.p for name, comparison in together.items()})
    assert corrected["far"] == pytest.approx(3 * together["far"].p)
    assert [(one.verdict, one.claim) for one in together.values()] == [
        ("shown", "reached"),
        ("shown", "excluded"),  # better than the baseline, by less than 20% of about .5
        ("contradicted", "excluded"),
    ]


def test_where_lower_is_better_the_difference_keeps_its_sign_and_no_gain_is_claimed(bootstrap):
    pairs = {name: statistics.Pair(name, "base", lower_is_better=True) for name in ("far", "same")}
    pairs["turned"] = statistics.Pair("base", "far", lower_is_better=True)
    found = bootstrap.compare(pairs, claimed_gain=0.1)
    assert (found["far"].difference > 0, found["far"].verdict, found["far"].claim) == (True, "behind", None)
    assert (found["turned"].high < 0, found["turned"].verdict, found["turned"].claim) == (True, "shown", None)
    assert found["same"].verdict == "undecided"


def test_columns_are_identical_or_not(bootstrap):
    assert bootstrap.identical("same", "base")
    assert not bootstrap.identical("near", "base")


def test_a_log_ratio_has_the_error_of_the_delta_method_and_needs_means_above_zero():
    hits = {"one": np.arange(400) < 240, "other": np.arange(400) < 200, "none": np.zeros(400)}
    bootstrap = statistics.PairedBootstrap(hits, np.arange(400), draws=2_000, seed=0)
    ratio = bootstrap.log_ratio("one", "other")
    assert ratio is not None
    assert ratio[0] == pytest.approx(np.log(240 / 200))
    # log(1 + extra / hits) with 40 extra and 200 hits
    assert ratio[1] == pytest.approx(40 / 240 * np.sqrt(1 / 40 + 1 / 200), rel=0.05)
    assert bootstrap.log_ratio("one", "none") is None


def test_differences_are_written_with_their_signs():
    assert statistics.format_difference(0.01234, -0.5, 1) == "+0.0123 [-0.5000, +1.0000]"
    assert statistics.format_relative(-0.0273) == "-2.7%"
    assert statistics.format_relative(None) == ""


@pytest.mark.parametrize(("p", "text"), [(0.0, "< 0.001"), (0.0009, "< 0.001"), (0.001, "0.001"), (0.15, "0.150")])
def test_no_p_is_written_as_zero(p, text):
    assert statistics.format_p(p) == text


def test_holm_as_published():
    """Four hypotheses at p = .01, .04, .03, .005: the textbook case, times 4, 3, 2, 1 in ascending order."""
    p = {"h1": 0.01, "h2": 0.04, "h3": 0.03, "h4": 0.005}
    assert statistics.holm(p) == pytest.approx({"h1": 0.03, "h2": 0.06, "h3": 0.06, "h4": 0.02})
    assert list(statistics.holm(p)) == list(p)  # under their names, in their order
    rejected = {name for name, corrected in statistics.holm(p).items() if corrected < 0.05}
    assert rejected == {"h1", "h4"}
    assert statistics.holm(dict.fromkeys("abcde", 0.02)) == pytest.approx(dict.fromkeys("abcde", 0.1))
    equal_steps = {str(step): step / 100 for step in (5, 4, 3, 2, 1)}
    assert statistics.holm(equal_steps) == pytest.approx({"5": 0.09, "4": 0.09, "3": 0.09, "2": 0.08, "1": 0.05})


def test_levels_and_powers_are_by_default_those_of_the_params():
    params = CompareParams()
    for function in (PairedBootstrap.__init__, percentile_interval, bootstrap_difference, pool_effects):
        defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()}
        assert defaults["level"] == params.level
        assert defaults.get("power", params.power) == params.power
    assert inspect.signature(verdict_on_gain).parameters["alpha"].default == pytest.approx(1 - params.level)
