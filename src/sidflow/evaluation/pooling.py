"""The mean of an effect over several data sets, by random effects.

Source: DerSimonian and Laird 1986 (heterogeneity by moments); Hartung and Knapp 2001, Sidik and Jonkman 2002
(standard error from the effects' spread around the estimate, Student's t); Roever, Knapp and Friede 2015 (never a
standard error below that of effects that agree); Higgins and Thompson 2002 (I squared).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from sidflow.evaluation.statistics import Difference

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class PooledEffect(Difference):
    """The mean effect over data sets, each of them one draw from all data sets that there could be."""

    tau_squared: float  # variance of true effects between data sets; NaN for one data set
    i_squared: float  # share of the effects' variance that is between data sets, 0 to 1; NaN for one data set
    data_sets: int
    normal: tuple[float, float]  # DerSimonian and Laird's own interval: too narrow where data sets are few


def pool_effects(
    effects: Float[np.ndarray, " k"], standard_errors: Float[np.ndarray, " k"], level: float = 0.95, power: float = 0.8
) -> PooledEffect:
    """Return the mean effect over data sets, with an interval that holds for data sets like these.

    With few data sets the interval is wide: Student's t has k - 1 degrees of freedom. One data set says nothing of
    others, and its interval is infinite.

    Args:
        effects: one per data set, on a scale on which they add up (differences, logarithms of ratios).
        standard_errors: of the effects, above 0.
        level: of the interval.
        power: probability that a true mean of the detectable size is shown. The size is that of a central t, for the
            standard error that these data sets gave.

    Raises:
        ValueError: there is no data set, or a standard error is not above 0 and finite.
    """
    valid = np.isfinite(standard_errors) & (standard_errors > 0)
    if not len(effects) or len(effects) != len(standard_errors) or not valid.all():
        raise ValueError(
            f"expected effects, each with a finite standard error above 0; found effects {list(effects)} with standard "
            f"errors {list(standard_errors)}"
        )
    if len(effects) == 1:
        unbounded = (-np.inf, np.inf)
        error = float(standard_errors[0])
        return PooledEffect(float(effects[0]), *unbounded, error, 1.0, np.inf, float("nan"), float("nan"), 1, unbounded)
    degrees_of_freedom = len(effects) - 1
    fixed = 1 / np.square(standard_errors)  # weights if all data sets had one true effect
    cochran_q = float((fixed * np.square(effects - np.average(effects, weights=fixed))).sum())
    scale = float(fixed.sum() - np.square(fixed).sum() / fixed.sum())
    tau_squared = max(0.0, (cochran_q - degrees_of_freedom) / scale)
    weights = 1 / (np.square(standard_errors) + tau_squared)
    mean = float(np.average(effects, weights=weights))
    spread = float((weights * np.square(effects - mean)).sum()) / degrees_of_freedom
    error = float(np.sqrt(max(1.0, spread) / weights.sum()))
    quantile = float(student.ppf((1 + level) / 2, degrees_of_freedom))
    half_width = float(norm.ppf((1 + level) / 2) / np.sqrt(weights.sum()))
    return PooledEffect(
        difference=mean,
        low=mean - quantile * error,
        high=mean + quantile * error,
        standard_error=error,
        p=float(2 * student.sf(abs(mean) / error, degrees_of_freedom)),
        detectable=(quantile + float(student.ppf(power, degrees_of_freedom))) * error,
        tau_squared=tau_squared,
        i_squared=max(0.0, 1 - degrees_of_freedom / cochran_q) if cochran_q > 0 else 0.0,
        data_sets=len(effects),
        normal=(mean - half_width, mean + half_width),
    )
