"""The head of the page: what was run, and what the comparison shows for the method under test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidflow.evaluation.statistics import format_p
from sidflow.report.blends import base_alone_sentence
from sidflow.report.data import ReportData, best_method_and_baseline
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, metric_title, number, percent, tag

VERDICT_LABELS = {
    "shown": "shown ahead",
    "behind": "shown behind",
    "contradicted": "gain contradicted",
    "undecided": "undecided",
}
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
    p = format_p(comparison.p).replace("<", "below")
    corrected = f"p is {p} after correction for {comparison.comparisons} comparisons"
    if comparison.verdict == "shown":
        return f"Shown: the interval lies above 0 and {corrected}."
    if comparison.verdict == "behind":
        return f"No, it is behind: the interval lies below 0 and {corrected}."
    if comparison.low > 0 or comparison.high < 0:
        side = "above" if comparison.low > 0 else "below"
        return f"Not shown: the interval lies {side} 0, but {corrected}."
    return "Undecided: the interval holds 0."


def claim_sentence(comparison: Comparison) -> str:
    """Return a sentence: is the gain as large as claimed?"""
    gain = percent(comparison.claimed_gain, signed=True)
    if comparison.claim is None:
        return f"No share of nothing: the baseline's mean is 0, and {gain} of it is 0 too."
    return {
        "reached": f"Reached: the whole interval lies at {gain} or above.",
        "excluded": f"Excluded: the whole interval lies below {gain}.",
        "open": f"Open: the interval holds {gain}, and smaller gains too.",
    }[comparison.claim]


def headline_section(data: ReportData, glossary: Glossary) -> Markup:
    """Return the title, a card for each of the two metrics, and the sizes of the data."""
    board = data.leaderboard
    method, best = best_method_and_baseline(board)
    sizes = [
        ("users", data.ingest.get("users")),
        ("candidate items", data.ingest.get("items_core", data.ingest.get("items"))),
        ("interactions", data.ingest.get("interactions")),
        ("items with a picture", data.ingest.get("items_with_picture")),
        ("candidate items with text", data.ingest.get("core_items_with_text")),
        ("test queries", board["queries"]),
    ]
    tiles = [tag("div", tag("dd", number(value)), tag("dt", name)) for name, value in sizes if isinstance(value, int)]
    return tag(
        "header",
        tag("p", "sidflow", tag("span", f"preset {data.preset}"), class_="eyebrow"),
        *_comparison_parts(data, glossary, method, best),
        tag("dl", *tiles, class_="facts"),
    )


def _comparison_parts(
    data: ReportData, glossary: Glossary, method: str | None, best: str | None
) -> list[Markup | None]:
    board = data.leaderboard
    realised = compare_with_best(board, method, board["primary"]) if method is not None else None
    if method is None or best is None or realised is None:
        return [tag("h1", f"{len(board['recommenders'])} recommenders, side by side")]
    expected = compare_with_best(board, method, EXPECTED_METRIC)
    cards = [
        _card(comparison, board, method, best, glossary)
        for comparison in (realised, expected)
        if comparison is not None
    ]
    return [
        tag("h1", *_title(realised, method, best)),
        _introduction(data, glossary, method, best),
        tag("div", *cards, class_="findings"),
    ]


def _title(comparison: Comparison, method: str, best: str) -> list[object]:
    name = f"realised {metric_title(comparison.metric)}"
    gain = percent(comparison.claimed_gain, signed=True)
    if comparison.verdict == "shown":
        by_claim = {"reached": f", by the claimed {gain} or more", "excluded": f", by less than the claimed {gain}"}
        margin = by_claim.get(str(comparison.claim), f"; the claimed gain of {gain} is undecided")
        return [tag("em", method), f" is ahead of {best} in {name}{margin}"]
    if comparison.verdict == "behind":
        return [tag("em", method), f" is behind {best} in {name}"]
    if comparison.claim == "excluded":
        return [tag("em", method), f" does not gain the claimed {gain} over {best} in {name}"]
    return [tag("em", method), f" is not shown to be ahead of {best} in {name}"]


def _introduction(data: ReportData, glossary: Glossary, method: str, best: str) -> Markup:
    parts: list[object] = [
        tag("b", best),
        " was the best baseline on validation. The test part answers two questions: is ",
        tag("b", method),
        " ahead of it at all, and by the ",
        glossary.link("claimed gain"),
        f" of {percent(data.leaderboard['claimed_gain'], signed=True)}?",
    ]
    share, baseline_share = (data.metrics[name].get(f"{EXPECTED_METRIC}_of_best") for name in (method, best))
    if share is not None:
        parts.append(
            f" This catalogue is synthetic, so the best possible expected nDCG@10 can be computed: {method} reaches "
            f"{percent(share)} of it, {best} {percent(baseline_share)}."
        )
    blends = (base_alone_sentence(name, data.summaries[name]) for name in (method, best))
    parts += [f" {sentence}" for sentence in blends if sentence]
    return tag("p", *parts, class_="lead")


def _card(comparison: Comparison, board: Mapping, method: str, best: str, glossary: Glossary) -> Markup:
    expected = comparison.metric.startswith("expected")
    metric = comparison.metric.removeprefix("expected_")
    kind, basis = (
        ("expected", "under the generator's true probabilities, without the noise of sampled targets")
        if expected
        else ("realised", f"on the held-out targets of {number(board['users'])} users")
    )
    span = f"{percent(comparison.relative_low, True, 1)} to {percent(comparison.relative_high, True, 1)}"
    rows = [
        (method, number(comparison.mean)),
        (best, number(comparison.baseline_mean)),
        ("difference", percent(comparison.relative, True, 1)),
        (join(f"{percent(board['level'])} ", glossary.link("interval")), span),
        ("ahead at all?", ahead_sentence(comparison)),
        (f"ahead by {percent(comparison.claimed_gain, signed=True)}?", claim_sentence(comparison)),
        (
            glossary.link("minimum detectable effect"),
            f"{percent(comparison.detectable, True, 1)} at {percent(board['power'])} power",
        ),
    ]
    chip = tag("span", VERDICT_LABELS[str(comparison.verdict)], class_=f"chip {comparison.verdict}")
    return tag(
        "article",
        tag("h3", tag("span", glossary.link(kind), " ", glossary.metric(metric)), chip),
        tag("p", basis, class_="over"),
        tag("dl", *[join(tag("dt", name), tag("dd", value)) for name, value in rows]),
        class_="card finding",
    )
