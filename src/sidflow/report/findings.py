"""What the comparison found of one recommender against the best baseline, in relative terms and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidflow.report.markup import number, percent

CHIPS = {"shown": "shown ahead", "contradicted": "gain contradicted", "undecided": "undecided"}
EXPECTED = "expected_ndcg_at_10"


class Finding(NamedTuple):
    """A paired difference; whatever is relative is a share of the best baseline's mean, None where that is 0."""

    metric: str
    mine: float
    theirs: float
    difference: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    detectable: float | None
    p: float  # corrected
    comparisons: int
    verdict: str | None  # None for a baseline
    claim: str | None
    claimed: float


def finding(board: Mapping, name: str, metric: str) -> Finding | None:
    """Return what was found of `name` in `metric`, or None where it was not compared."""
    found = board["differences"].get(name, {}).get(metric)
    if found is None:
        return None
    mine, theirs = (board["recommenders"][one]["metrics"][metric]["mean"] for one in (name, board["best_baseline"]))
    low, high, detectable = (found[part] / theirs if theirs > 0 else None for part in ("low", "high", "detectable"))
    return Finding(
        metric=metric,
        mine=mine,
        theirs=theirs,
        difference=found["difference"],
        low=found["low"],
        high=found["high"],
        relative=found["relative"],
        relative_low=low,
        relative_high=high,
        detectable=detectable,
        p=found["p_corrected"],
        comparisons=len(board["differences"]),
        verdict=found.get("verdict"),
        claim=found.get("claim"),
        claimed=board["claimed_gain"],
    )


def ahead(found: Finding) -> str:
    """Return in words whether the recommender is better at all."""
    corrected = f"p is {number(found.p, 3)} after correction for {found.comparisons} comparisons"
    if found.verdict == "shown":
        return f"Shown: the interval lies above 0 and {corrected}."
    if found.low > 0:
        return f"Not shown: the interval lies above 0, but {corrected}."
    if found.high < 0:
        return "No, it is behind: the interval lies below 0."
    return "Undecided: the interval holds 0."


def reached(found: Finding) -> str:
    """Return in words whether the gain is as large as claimed."""
    gain = percent(found.claimed, signed=True)
    return {
        "reached": f"Reached: the whole interval lies at {gain} or above.",
        "excluded": f"Excluded: the whole interval lies below {gain}.",
        "open": f"Open: the interval holds {gain}, and smaller gains too.",
    }[str(found.claim)]
