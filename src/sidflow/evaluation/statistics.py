"""Paired comparison over users: bootstrap, detectable effects, Holm's correction, verdicts.

All queries of one user are one cluster: users are resampled, never single queries. All columns of values are averaged
over the same resamples, so that every difference between two columns is paired.

Source: Efron and Tibshirani 1993, chapters 13 and 16 (percentile intervals, bootstrap p); Holm 1979 (correction of p).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

if TYPE_CHECKING:
    from jaxtyping import Float, Integer


Column = TypeVar("Column", bound=Hashable)
Name = TypeVar("Name", bound=Hashable)
Verdict = Literal["shown", "behind", "contradicted", "undecided"]
Claim = Literal["reached", "excluded", "open"]
_BLOCK_BYTES = 32_000_000
_DECIMALS = 12  # equal columns stay equal: a BLAS kernel may give two of them another last bit


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Difference:
    """A difference of two means, in the metric's own direction."""

    difference: float
    low: float
    high: float
    standard_error: float
    p: float  # two-sided, not corrected
    detectable: float  # minimum detectable effect: the smallest true difference shown at the wanted power, uncorrected


@dataclass(frozen=True)
class PairedComparison(Difference):
    """A recommender less a baseline in one metric, as one of several comparisons that are corrected together."""

    mean: float  # of the recommender
    baseline_mean: float
    relative: float | None  # difference / baseline_mean; None where the baseline has nothing
    p_corrected: float  # Holm, over the comparisons made together
    verdict: Verdict
    claim: Claim | None  # None where no gain is claimed in that metric


class Pair(NamedTuple, Generic[Column]):
    """Two columns to compare, and which direction of their metric is the better one."""

    column: Column
    baseline: Column
    lower_is_better: bool = False


class ResampledMeans(NamedTuple):
    """Means over queries of several columns: of the data, and of every resample of its users."""

    mean: Float[np.ndarray, " m"]
    resampled: Float[np.ndarray, "draws m"]
    users: int  # that are resampled


class PairedBootstrap(Generic[Column]):
    """The means of named columns of per-query values, all over the same resamples of users."""

    def __init__(
        self,
        values: Mapping[Column, Float[np.ndarray, " q"]],
        users: Integer[np.ndarray, " q"],
        *,
        draws: int,
        seed: int,
        level: float = 0.95,
        power: float = 0.8,
    ) -> None:
        """Resample the users.

        Args:
            values: per-query values by column; all columns answer the same queries in the same order.
            users: the user of each query.
            draws: number of resamples.
            seed: of the resampling; the same users and seed give the same resamples.
            level: of all intervals, 0 to 1; p values are held against 1 - level.
            power: probability, 0 to 1, that a true difference of the detectable size is shown.
        """
        self.level, self.power = level, power
        self._values, self._users = values, users
        self._index = {column: index for index, column in enumerate(values)}
        self._means = resample_means(np.stack(list(values.values()), axis=1), users, draws, seed)
        self.users = self._means.users

    def mean(self, column: Column) -> float:
        """Return the mean of a column over all queries."""
        return float(self._means.mean[self._index[column]])

    def interval(self, column: Column) -> Interval:
        """Return the mean of a column with its percentile interval."""
        return percentile_interval(self.mean(column), self._resampled(column), self.level)

    def difference(self, column: Column, baseline: Column) -> Difference:
        """Return the paired difference `column` less `baseline`."""
        resampled = self._resampled(column) - self._resampled(baseline)
        difference = self.mean(column) - self.mean(baseline)
        differing = len(np.unique(self._users[self._values[column] != self._values[baseline]]))
        return bootstrap_difference(difference, resampled, self.users, self.level, self.power, differing)

    def log_ratio(self, column: Column, baseline: Column) -> tuple[float, float] | None:
        """Return log(mean of `column` / mean of `baseline`) and its standard error; None where a mean may be 0."""
        pair = [self._index[column], self._index[baseline]]
        means, resampled = self._means.mean[pair], self._means.resampled[:, pair]
        if not (means > 0).all() or not (resampled > 0).all():
            return None
        return float(np.log(means[0] / means[1])), float(np.log(resampled[:, 0] / resampled[:, 1]).std(ddof=1))

    def compare(self, pairs: Mapping[Name, Pair[Column]], claimed_gain: float) -> dict[Name, PairedComparison]:
        """Return the comparison of every pair, as `compare_together`."""
        return compare_together({name: (self, pair) for name, pair in pairs.items()}, claimed_gain)

    def identical(self, column: Column, other: Column) -> bool:
        """Return whether two columns hold the same value for every query: there is nothing to test then."""
        return np.array_equal(self._values[column], self._values[other])

    def _resampled(self, column: Column) -> Float[np.ndarray, " draws"]:
        return self._means.resampled[:, self._index[column]]


def compare_together(
    pairs: Mapping[Name, tuple[PairedBootstrap[Column], Pair[Column]]], claimed_gain: float
) -> dict[Name, PairedComparison]:
    """Return the comparison of every pair, with p values corrected for the number of pairs.

    One user says nothing of others: such a comparison is undecided, and its claim open.

    Args:
        pairs: what to compare, by name, and the bootstrap that has its columns: pairs over other queries, such as those
            of a slice, have another one.
        claimed_gain: relative to the baseline's mean. No gain is claimed where lower is better or the baseline has
            nothing, and so none is contradicted there.
    """
    differences = {name: bootstrap.difference(pair.column, pair.baseline) for name, (bootstrap, pair) in pairs.items()}
    corrected = holm({name: difference.p for name, difference in differences.items()})
    comparisons = {}
    for name, (bootstrap, (column, baseline, lower_is_better)) in pairs.items():
        difference, baseline_mean = differences[name], bootstrap.mean(baseline)
        claimed = None if lower_is_better or baseline_mean <= 0 else claimed_gain * baseline_mean
        gain = mirrored(difference) if lower_is_better else difference
        verdict = verdict_on_gain(gain, corrected[name], claimed, 1 - bootstrap.level)
        claim = None if claimed is None else verdict_on_claim(gain, claimed)
        if bootstrap.users < 2:
            verdict, claim = "undecided", None if claim is None else "open"
        comparisons[name] = PairedComparison(
            **vars(difference),
            mean=bootstrap.mean(column),
            baseline_mean=baseline_mean,
            relative=difference.difference / baseline_mean if baseline_mean > 0 else None,
            p_corrected=corrected[name],
            verdict=verdict,
            claim=claim,
        )
    return comparisons


def resample_means(
    values: Float[np.ndarray, "q m"], users: Integer[np.ndarray, " q"], draws: int, seed: int
) -> ResampledMeans:
    """Resample users with replacement and return the mean over their queries, all columns together.

    Args:
        values: one row per query, one column per (recommender, metric).
        users: the user of each query.
        draws: number of resamples.
        seed: of the resampling; the same users and seed give the same resamples.
    """
    _, cluster = np.unique(users, return_inverse=True)
    clusters = int(cluster.max(initial=-1)) + 1
    if clusters == 0:
        empty = np.full(values.shape[1], np.nan)
        return ResampledMeans(empty, np.tile(empty, (draws, 1)), 0)
    sums = np.stack([np.bincount(cluster, column, clusters) for column in values.T.astype(np.float64)], axis=1)
    sizes = np.bincount(cluster, minlength=clusters).astype(np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty((draws, values.shape[1]))
    step = max(1, _BLOCK_BYTES // (16 * clusters))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        sampled = generator.integers(clusters, size=(size, clusters)) + np.arange(size)[:, None] * clusters
        counts = np.bincount(sampled.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
        means[start : start + size] = (counts @ sums) / (counts @ sizes)[:, None]
    return ResampledMeans(np.round(sums.sum(axis=0) / sizes.sum(), _DECIMALS), np.round(means, _DECIMALS), clusters)


def percentile_interval(mean: float, resampled: Float[np.ndarray, " draws"], level: float = 0.95) -> Interval:
    """Return the percentile interval of a mean from its resamples."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean), float(low), float(high), float(resampled.std(ddof=1)))


def bootstrap_difference(
    difference: float,
    resampled: Float[np.ndarray, " draws"],
    users: int,
    level: float = 0.95,
    power: float = 0.8,
    differing: int | None = None,
) -> Difference:
    """Return a difference with its interval, its two-sided bootstrap p and its minimum detectable effect.

    Where all resamples lie on one side of 0, their number bounds p from above alone. p is then that of Student's t for
    the bootstrap's standard error, if it is smaller: a correction for many comparisons needs p below 1 / draws.

    By chance alone m users all differ to the same side with probability 2 ** (1 - m), so p is never below that:
    resamples of a few users would be sure of what they cannot know.

    Args:
        difference: in the data.
        resampled: the same difference in every resample.
        users: that were resampled; t has one degree of freedom less.
        level: of the interval.
        power: probability that a true difference of the detectable size is shown.
        differing: m, the users whose two values differ; None: all.
    """
    interval = percentile_interval(difference, resampled, level)
    tail_count = min((resampled <= 0).sum(), (resampled >= 0).sum())
    p = float(min(1.0, 2 * (tail_count + 1) / (len(resampled) + 1)))
    if not tail_count and users > 1 and interval.standard_error > 0:
        p = min(p, float(2 * student.sf(abs(difference) / interval.standard_error, users - 1)))
    p = max(p, min(1.0, 2.0 ** (1 - (users if differing is None else differing))))
    detectable = float(norm.ppf((1 + level) / 2) + norm.ppf(power)) * interval.standard_error
    return Difference(*interval, p=p, detectable=detectable)


def mirrored(difference: Difference) -> Difference:
    """Return the difference the other way round: a gain, where lower is better."""
    return replace(difference, difference=-difference.difference, low=-difference.high, high=-difference.low)


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Return p values corrected for their number (Holm 1979), under the same names."""
    corrected, running_max = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: (p[name], str(name)))):
        running_max = max(running_max, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = running_max
    return {name: corrected[name] for name in p}


def verdict_on_gain(gain: Difference, p_corrected: float, claimed: float | None, alpha: float = 0.05) -> Verdict:
    """Return whether a gain above 0, or a loss, is shown, whatever its size. Both follow one rule.

    Args:
        gain: a difference of which more is better.
        p_corrected: its p, corrected.
        claimed: the gain that somebody claims, on the scale of the difference; None where nobody does.
        alpha: significance level.

    Returns:
        `shown` where the interval lies above 0 and the corrected p below alpha; `behind` where the interval lies
        below 0 and the corrected p below alpha; `contradicted` where neither is shown and the interval lies below
        the claimed gain; `undecided` otherwise.
    """
    if p_corrected < alpha and (gain.low > 0 or gain.high < 0):
        return "shown" if gain.low > 0 else "behind"
    return "contradicted" if claimed is not None and gain.high < claimed else "undecided"


def verdict_on_claim(gain: Difference, claimed: float) -> Claim:
    """Return whether a gain is as large as `claimed`.

    Returns:
        `reached` where the whole interval lies at the claimed gain or above; `excluded` where it lies below; `open`
        where it holds the claimed gain.
    """
    if gain.low >= claimed:
        return "reached"
    return "excluded" if gain.high < claimed else "open"


def format_difference(difference: float, low: float, high: float) -> str:
    """Return a difference and its interval as text, all signed, such as `+0.0123 [+0.0045, +0.0201]`."""
    return f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"


def format_relative(relative: float | None) -> str:
    """Return a relative difference in percent, such as `+2.7%`; empty where the baseline has nothing."""
    return "" if relative is None else f"{relative:+.1%}"


def format_p(p: float) -> str:
    """Return a p value with three decimals; `< 0.001` where these say too little."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
