"""The table of all recommenders: metrics with intervals, differences to the best baseline, verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report import alike, charts
from sidflow.report.findings import CHIPS, Finding, finding
from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, percent, tag
from sidflow.report.naming import look, ordered, pretty, role

_FAR = -0.5  # a relative difference below that is drawn at the picture's edge, so that the others can be read


def leaderboard(given: Gathered, words: Glossary) -> Markup:
    """Return the table of all recommenders, with pictures of intervals and differences, and verdicts."""
    board = given.leaderboard
    primary, names = board["primary"], ordered(given)
    everyone = board["recommenders"]
    found = {name: finding(board, name, primary) for name in names}
    oracle = next((one["metrics"][primary]["mean"] for one in everyone.values() if one["kind"] == "reference"), None)
    top = max(one["metrics"][primary]["high"] for one in everyone.values())
    near = [one for one in found.values() if one is not None and (one.relative or 0) > _FAR]
    reach = max((abs(end) for one in near for end in (one.low, one.high)), default=0) or 1.0
    others = [metric for metric in ("recall_at_10", "mrr_at_10") if metric in everyone[names[0]]["metrics"]]
    known = any(metrics.get("expected_ndcg_at_10_of_best") is not None for metrics in given.metrics.values())
    rows = []
    for name in names:
        measured, style = everyone[name]["metrics"], look(name, board)
        cells = [_who(name, board, style), *_value(name, primary, measured[primary], top * 1.02, style, oracle)]
        cells += _difference(name, found[name], reach, style)
        cells += [tag("td", number(measured[metric]["mean"])) for metric in others]
        if known:
            cells.append(tag("td", percent(given.metrics[name].get("expected_ndcg_at_10_of_best"))))
        rows.append(tag("tr", *cells, class_=style))
    heads: list[object] = [tag("th", "recommender", scope="col"), tag("th", class_="picture", scope="col")]
    heads.append(tag("th", words.link("realised"), " ", words.metric(primary), scope="col"))
    heads += [
        tag("th", class_="picture", scope="col"),
        tag("th", "against the best baseline", scope="col"),
        tag("th", words.link("verdict"), class_="verdict", scope="col"),
    ]
    heads += [tag("th", words.metric(metric), scope="col") for metric in others]
    heads += [tag("th", words.link("of the best possible"), scope="col")] if known else []
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="board")
    return tag(
        "section",
        tag("h2", "Leaderboard"),
        tag("div", table, class_="wide"),
        *[tag("p", said, class_="note") for said in alike.sentences(given)],
        _notes(board, words, oracle is not None),
    )


def _who(name: str, board: Mapping, style: str) -> Markup:
    same = alike.twins(name, board)
    return tag(
        "th",
        tag("span", name, class_=f"who {style}"),
        tag("small", role(name, board)),
        tag("small", f"same ranks as {', '.join(same)}") if same else None,
        scope="row",
    )


def _value(name: str, metric: str, value: Mapping, top: float, style: str, oracle: float | None) -> list[Markup]:
    span = f"{number(value['low'])} to {number(value['high'])}"
    said = f"{pretty(metric)} of {name}: {number(value['mean'])}, from {span}"
    bar = charts.interval_bar(said, value["mean"], value["low"], value["high"], top, style, oracle)
    return [tag("td", bar, class_="picture"), tag("td", tag("b", number(value["mean"])), tag("small", span))]


def _difference(name: str, found: Finding | None, reach: float, style: str) -> list[Markup]:
    if found is None:
        return [tag("td", class_="picture"), tag("td"), tag("td", class_="verdict")]
    span = f"{number(found.low)} to {number(found.high)}"
    said = f"{name} minus the best baseline: {number(found.difference)}, from {span}"
    bar = charts.difference_bar(said, found.difference, found.low, found.high, reach, style)
    relative = f"{percent(found.relative_low, True, 1)} to {percent(found.relative_high, True, 1)}"
    return [
        tag("td", bar, class_="picture narrow"),
        tag(
            "td",
            tag("b", percent(found.relative, True, 1)),
            tag("small", relative),
            tag("small", f"detectable {percent(found.detectable, digits=1)}"),
        ),
        _verdict(found),
    ]


def _verdict(found: Finding) -> Markup:
    if found.verdict is None:
        return tag("td", tag("small", "not under test"), class_="verdict")
    return tag(
        "td",
        tag("span", CHIPS[found.verdict], class_=f"chip {found.verdict}"),
        tag("small", f"p {number(found.p, 3)}"),
        tag("small", f"claimed {percent(found.claimed, signed=True)}: {found.claim}"),
        class_="verdict",
    )


def _notes(board: Mapping, words: Glossary, has_oracle: bool) -> Markup:
    parts: list[object] = [
        "Full ranking over all candidates, ties against the target. ",
        f"Whiskers: {percent(board['level'])} ",
        words.link("interval", "intervals"),
        f" over {number(board['users'])} users; p corrected for {len(board['differences'])} comparisons; ",
        words.link("minimum detectable effect", "detectable"),
        f": the effect that would be shown with {percent(board['power'])} power. ",
        tag("b", CHIPS["shown"]),
        f" says that the difference is above 0, not that it is the claimed {percent(board['claimed_gain'], True)}: "
        "that is said below it. Only methods under test get a verdict.",
    ]
    if has_oracle:
        parts.append(" Dashed: the oracle, which ranks by the generator's true probabilities.")
    return tag("p", join(*parts), class_="note")
