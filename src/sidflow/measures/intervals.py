"""Paired bootstrap over clusters (users), smallest detectable effects, corrected tests and verdicts.

Queries of one user are one cluster: users are resampled, never queries. The same resamples serve all recommenders,
so that a difference is paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from jaxtyping import Float, Integer

Verdict = Literal["shown", "contradicted", "undecided"]
Claim = Literal["reached", "excluded", "open"]
_BLOCK_BYTES = 32_000_000
_DECIMALS = 12  # equal columns stay equal: a BLAS kernel may give two of them another last bit


class Interval(NamedTuple):
    """An estimate and its interval."""

    mean: float
    low: float
    high: float
    error: float  # standard error


class Difference(NamedTuple):
    """A paired difference of two recommenders in one metric."""

    difference: float
    low: float
    high: float
    error: float
    p: float  # two-sided, not yet corrected
    detectable: float  # the smallest true difference that so many users would show at the asked power, uncorrected


class Resamples(NamedTuple):
    """Means over queries of several columns: of the data, and of every resample of its users."""

    mean: Float[np.ndarray, " m"]
    drawn: Float[np.ndarray, "draws m"]


def resample(values: Float[np.ndarray, "q m"], users: Integer[np.ndarray, " q"], draws: int, seed: int) -> Resamples:
    """Resample users with replacement and take the mean over their queries, all columns together.

    Args:
        values: one row a query, one column a (recommender, metric).
        users: whose query it is.
        draws: how many resamples.
        seed: of the resampling; the same users and seed give the same resamples.
    """
    _, cluster = np.unique(users, return_inverse=True)
    clusters = int(cluster.max(initial=-1)) + 1
    if clusters == 0:
        nothing = np.full(values.shape[1], np.nan)
        return Resamples(nothing, np.tile(nothing, (draws, 1)))
    sums = np.stack([np.bincount(cluster, column, clusters) for column in values.T.astype(np.float64)], axis=1)
    sizes = np.bincount(cluster, minlength=clusters).astype(np.float64)
    generator = np.random.default_rng(seed)
    drawn = np.empty((draws, values.shape[1]))
    step = max(1, _BLOCK_BYTES // (16 * clusters))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        chosen = generator.integers(clusters, size=(size, clusters)) + np.arange(size)[:, None] * clusters
        times = np.bincount(chosen.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
        drawn[start : start + size] = (times @ sums) / (times @ sizes)[:, None]
    return Resamples(np.round(sums.sum(axis=0) / sizes.sum(), _DECIMALS), np.round(drawn, _DECIMALS))


def interval(mean: float, drawn: Float[np.ndarray, " draws"], level: float = 0.95) -> Interval:
    """Return the percentile interval of one column of resamples."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean), float(low), float(high), float(drawn.std(ddof=1)))


def difference(mean: float, drawn: Float[np.ndarray, " draws"], level: float = 0.95, power: float = 0.8) -> Difference:
    """Return a paired difference: its interval, its bootstrap p, and what could have been detected.

    Args:
        mean: the difference in the data.
        drawn: the differences in the resamples.
        level: of the interval.
        power: chance that a true difference of the detectable size is shown.
    """
    found = interval(mean, drawn, level)
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    detectable = float(norm.ppf((1 + level) / 2) + norm.ppf(power)) * found.error
    return Difference(found.mean, found.low, found.high, found.error, p, detectable)


def mirrored(found: Difference) -> Difference:
    """Return the same difference the other way round, as verdicts want it where lower is better."""
    return found._replace(difference=-found.difference, low=-found.high, high=-found.low)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for their number (Holm 1979), under the same names."""
    corrected, running = {}, 0.0
    for place, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        running = max(running, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = running
    return {name: corrected[name] for name in p}


def verdict(found: Difference, corrected_p: float, claimed: float, alpha: float = 0.05) -> Verdict:
    """Judge whether one is better at all; by how much is what `claim` judges.

    Returns:
        `shown` where the interval lies above 0 and the corrected p below alpha; `contradicted` where it is not shown
        and the interval lies below the claimed gain; `undecided` otherwise.
    """
    if found.low > 0 and corrected_p < alpha:
        return "shown"
    return "contradicted" if found.high < claimed else "undecided"


def claim(found: Difference, claimed: float) -> Claim:
    """Judge whether a difference is as large as `claimed`.

    Returns:
        `reached` where the whole interval lies at the claimed gain or above; `excluded` where it lies below; `open`
        where it holds the claimed gain.
    """
    if found.low >= claimed:
        return "reached"
    return "excluded" if found.high < claimed else "open"
