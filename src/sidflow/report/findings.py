"""The comparison of a recommender with the best baseline, in relative terms and as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidflow.report.markup import number, percent

VERDICT_LABELS = {"shown": "shown ahead", "contradicted": "gain contradicted", "undecided": "undecided"}
EXPECTED_METRIC = "expected_ndcg_at_10"


class Comparison(NamedTuple):
    """A paired difference. What is relative is a share of the best baseline's mean; None where that mean is 0."""

    metric: str
    mean: float
    baseline_mean: float
    difference: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    detectable: float | None  # the smallest true difference that would be shown, relative
    p: float  # after the correction for several comparisons
    comparisons: int
    verdict: str | None  # a key of VERDICT_LABELS; None for a baseline
    claim: str | None  # `reached`, `excluded` or `open`
    claimed_gain: float  # relative


def compare_with_best(board: Mapping, name: str, metric: str) -> Comparison | None:
    """Return how `name` compares in `metric`, or None where it was not compared."""
    difference = board["differences"].get(name, {}).get(metric)
    if difference is None:
        return None
    mean, baseline_mean = (
        board["recommenders"][recommender]["metrics"][metric]["mean"] for recommender in (name, board["best_baseline"])
    )
    low, high, detectable = (
        difference[part] / baseline_mean if baseline_mean > 0 else None for part in ("low", "high", "detectable")
    )
    return Comparison(
        metric=metric,
        mean=mean,
        baseline_mean=baseline_mean,
        difference=difference["difference"],
        low=difference["low"],
        high=difference["high"],
        relative=difference["relative"],
        relative_low=low,
        relative_high=high,
        detectable=detectable,
        p=difference["p_corrected"],
        comparisons=len(board["differences"]),
        verdict=difference.get("verdict"),
        claim=difference.get("claim"),
        claimed_gain=board["claimed_gain"],
    )


def ahead_sentence(comparison: Comparison) -> str:
    """Return a sentence: is the recommender better than the best baseline at all?"""
    corrected = f"p is {number(comparison.p, 3)} after correction for {comparison.comparisons} comparisons"
    if comparison.verdict == "shown":
        return f"Shown: the interval lies above 0 and {corrected}."
    if comparison.low > 0:
        return f"Not shown: the interval lies above 0, but {corrected}."
    if comparison.high < 0:
        return "No, it is behind: the interval lies below 0."
    return "Undecided: the interval holds 0."


def claim_sentence(comparison: Comparison) -> str:
    """Return a sentence: is the gain as large as claimed?"""
    gain = percent(comparison.claimed_gain, signed=True)
    return {
        "reached": f"Reached: the whole interval lies at {gain} or above.",
        "excluded": f"Excluded: the whole interval lies below {gain}.",
        "open": f"Open: the interval holds {gain}, and smaller gains too.",
    }[str(comparison.claim)]
