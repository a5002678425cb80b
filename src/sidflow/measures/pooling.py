"""One effect over several data sets: a random-effects estimate, its interval, and how far the data sets disagree.

Source: DerSimonian and Laird 1986 (heterogeneity by moments); Hartung and Knapp 2001, Sidik and Jonkman 2002 (the
error from what is left around the estimate, Student's t with one degree of freedom per data set but one); Roever,
Knapp and Friede 2015 (never an error below that of the estimate whose effects are known to agree); Higgins and
Thompson 2002 (I squared).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from sidflow.measures.intervals import Difference

if TYPE_CHECKING:
    from jaxtyping import Float


class Pooled(NamedTuple):
    """An effect over data sets, each of them a draw from the data sets that there could be."""

    found: Difference  # of the mean over all such data sets
    tau_squared: float  # variance of true effects between data sets; NaN for one data set
    i_squared: float  # share of the effects' variance that is between data sets, 0 to 1; NaN for one data set
    data_sets: int
    normal: tuple[float, float]  # DerSimonian and Laird's own interval: too narrow where data sets are few


def pool(
    effects: Float[np.ndarray, " k"], errors: Float[np.ndarray, " k"], level: float = 0.95, power: float = 0.8
) -> Pooled:
    """Return the mean effect over data sets, with an interval that holds for data sets like these.

    With few data sets the interval is wide, as it should be: Student's t has k - 1 degrees of freedom. One data set
    says nothing of others: its interval has no end.

    Args:
        effects: one a data set, on a scale on which they add up (differences, logarithms of ratios).
        errors: their standard errors, above 0.
        level: of the interval.
        power: chance that a true mean of the detectable size is shown. The size is that of a central t, for the
            error that these data sets gave.

    Raises:
        ValueError: no data set, or an error that is not above 0 and finite.
    """
    if not len(effects) or len(effects) != len(errors) or not (np.isfinite(errors) & (errors > 0)).all():
        raise ValueError(f"effects with finite errors above 0, one each, not {list(effects)} with {list(errors)}")
    if len(effects) == 1:
        only = Difference(float(effects[0]), -np.inf, np.inf, float(errors[0]), 1.0, np.inf)
        return Pooled(only, float("nan"), float("nan"), 1, (-np.inf, np.inf))
    free = len(effects) - 1
    known = 1 / np.square(errors)
    spread = float((known * np.square(effects - np.average(effects, weights=known))).sum())  # Cochran's Q
    scale = float(known.sum() - np.square(known).sum() / known.sum())
    tau_squared = max(0.0, (spread - free) / scale)
    weights = 1 / (np.square(errors) + tau_squared)
    mean = float(np.average(effects, weights=weights))
    around = float((weights * np.square(effects - mean)).sum()) / free
    error = float(np.sqrt(max(1.0, around) / weights.sum()))
    reach = float(student.ppf((1 + level) / 2, free))
    detectable = (reach + float(student.ppf(power, free))) * error
    p = float(2 * student.sf(abs(mean) / error, free))
    found = Difference(mean, mean - reach * error, mean + reach * error, error, p, detectable)
    half = float(norm.ppf((1 + level) / 2) / np.sqrt(weights.sum()))
    share = max(0.0, 1 - free / spread) if spread > 0 else 0.0
    return Pooled(found, tau_squared, share, len(effects), (mean - half, mean + half))
