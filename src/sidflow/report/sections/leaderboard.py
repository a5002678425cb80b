"""The table of all recommenders: metrics, differences to the best baseline, verdicts, costs, duplicates."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.evaluation.statistics import format_p
from sidflow.report.blends import added_without_weight, base_alone_sentence
from sidflow.report.charts import difference_bar, interval_bar
from sidflow.report.costs import cost_cell, cost_head, cost_note, run_key
from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import (
    Markup,
    best_first,
    format_value,
    join,
    metric_title,
    number,
    percent,
    role_label,
    style_class,
    tag,
)
from sidflow.report.sections.headline import VERDICT_LABELS, Comparison, compare_with_best

_LOWEST = -0.5  # relative differences below are drawn at the edge of the chart, so that the rest can be read


def duplicates_of(name: str, board: Mapping) -> list[str]:
    """Return the recommenders that give every query the same ranks as `name` does."""
    group = next((group for group in board["equal"] if name in group), [])
    return [other for other in group if other != name]


def duplicate_sentences(data: ReportData) -> list[str]:
    """Return one sentence for each group of duplicates, and for each blend that adds nothing."""
    blends = (base_alone_sentence(name, data.summaries[name]) for name in data.leaderboard["recommenders"])
    duplicates = [_duplicate_sentence(group, data.summaries) for group in data.leaderboard["equal"]]
    return [*duplicates, *(sentence for sentence in blends if sentence)]


def _duplicate_sentence(group: list[str], summaries: Mapping[str, Mapping]) -> str:
    chosen_settings = {
        name: summaries[name].get("chosen") or {} for name in group if not added_without_weight(summaries[name])
    }
    shared = set.intersection(*map(set, chosen_settings.values())) if chosen_settings else set()
    differing = [
        f"{name} has the setting {setting}, chosen on validation as {format_value(value)}"
        for name, settings in chosen_settings.items()
        for setting, value in sorted(settings.items())
        if setting not in shared
    ]
    sentence = f"{' and '.join(group)} give every query the same ranks: count them as one recommender"
    return f"{sentence}; {', '.join(differing)}." if differing else f"{sentence}."


def leaderboard_section(data: ReportData, glossary: Glossary) -> Markup:
    """Return the table of all recommenders, best first, with charts of intervals and differences."""
    board = data.leaderboard
    primary, names = board["primary"], best_first(data)
    entries = board["recommenders"]
    comparisons = {name: compare_with_best(board, name, primary) for name in names}
    oracle = next(
        (entry["metrics"][primary]["mean"] for entry in entries.values() if entry["kind"] == "reference"), None
    )
    top = max(entry["metrics"][primary]["high"] for entry in entries.values())
    charted = [
        comparison
        for comparison in comparisons.values()
        if comparison is not None and (comparison.relative or 0) > _LOWEST
    ]
    axis_end = (
        max((abs(bound) for comparison in charted for bound in (comparison.low, comparison.high)), default=0) or 1.0
    )
    others = [metric for metric in ("recall_at_10", "mrr_at_10") if metric in entries[names[0]]["metrics"]]
    has_best_possible = any(metrics.get("expected_ndcg_at_10_of_best") is not None for metrics in data.metrics.values())
    rows = []
    for name in names:
        metrics, style = entries[name]["metrics"], style_class(name, board)
        cells = [
            _name_cell(name, data, style),
            *_metric_cells(name, primary, metrics[primary], top * 1.02, style, oracle),
        ]
        cells += _difference_cells(name, comparisons[name], axis_end, style)
        cells += [tag("td", number(metrics[metric]["mean"])) for metric in others]
        if has_best_possible:
            cells.append(tag("td", percent(data.metrics[name].get("expected_ndcg_at_10_of_best"))))
        cells.append(cost_cell(name))
        rows.append(tag("tr", *cells, class_=style))
    heads: list[object] = [tag("th", "recommender", scope="col"), tag("th", class_="picture", scope="col")]
    heads.append(tag("th", glossary.link("realised"), " ", glossary.metric(primary), scope="col"))
    heads += [
        tag("th", class_="picture narrow", scope="col"),
        tag("th", "against the best baseline", scope="col"),
        tag("th", glossary.link("verdict"), class_="verdict", scope="col"),
    ]
    heads += [tag("th", glossary.metric(metric), scope="col") for metric in others]
    heads += [tag("th", glossary.link("of the best possible"), scope="col")] if has_best_possible else []
    heads.append(cost_head())
    body = tag("tbody", *rows, data_run=run_key(board))
    table = tag("table", tag("thead", tag("tr", *heads)), body, class_="board")
    return tag(
        "section",
        tag("h2", "Leaderboard"),
        tag("div", table, class_="wide"),
        *[tag("p", sentence, class_="note") for sentence in duplicate_sentences(data)],
        _notes(board, glossary, oracle is not None),
        cost_note(board),
    )


def _name_cell(name: str, data: ReportData, style: str) -> Markup:
    board = data.leaderboard
    duplicates, added = duplicates_of(name, board), added_without_weight(data.summaries[name])
    return tag(
        "th",
        tag("span", name, class_=f"who {style}"),
        tag("small", role_label(name, board)),
        tag("small", f"same ranks as {', '.join(duplicates)}") if duplicates else None,
        tag("small", f"{added} adds nothing: weight 0") if added else None,
        scope="row",
    )


def _metric_cells(name: str, metric: str, value: Mapping, top: float, style: str, oracle: float | None) -> list[Markup]:
    span = f"{number(value['low'])} to {number(value['high'])}"
    title = f"{metric_title(metric)} of {name}: {number(value['mean'])}, from {span}"
    bar = interval_bar(title, value["mean"], value["low"], value["high"], top, style, oracle)
    return [tag("td", bar, class_="picture"), tag("td", tag("b", number(value["mean"])), tag("small", span))]


def _difference_cells(name: str, comparison: Comparison | None, axis_end: float, style: str) -> list[Markup]:
    if comparison is None:
        return [tag("td", class_="picture narrow"), tag("td"), tag("td", class_="verdict")]
    span = f"{number(comparison.low)} to {number(comparison.high)}"
    title = f"{name} minus the best baseline: {number(comparison.difference)}, from {span}"
    bar = difference_bar(title, comparison.difference, comparison.low, comparison.high, axis_end, style)
    relative = f"{percent(comparison.relative_low, True, 1)} to {percent(comparison.relative_high, True, 1)}"
    return [
        tag("td", bar, class_="picture narrow"),
        tag(
            "td",
            tag("b", percent(comparison.relative, True, 1)),
            tag("small", relative),
            tag("small", f"detectable {percent(comparison.detectable, digits=1)}"),
        ),
        _verdict_cell(comparison),
    ]


def _verdict_cell(comparison: Comparison) -> Markup:
    if comparison.verdict is None:
        return tag("td", tag("small", "not under test"), class_="verdict")
    return tag(
        "td",
        tag("span", VERDICT_LABELS[comparison.verdict], class_=f"chip {comparison.verdict}"),
        tag("small", f"p {format_p(comparison.p)}"),
        tag("small", f"claimed {percent(comparison.claimed_gain, signed=True)}: {comparison.claim}"),
        class_="verdict",
    )


def _notes(board: Mapping, glossary: Glossary, has_oracle: bool) -> Markup:
    parts: list[object] = [
        "Ranked over all candidates; ties count against the target. ",
        f"Whiskers: {percent(board['level'])} ",
        glossary.link("interval", "intervals"),
        f" over {number(board['users'])} users; p corrected for {len(board['differences'])} comparisons; ",
        glossary.link("minimum detectable effect", "detectable"),
        f": the effect that would be shown with {percent(board['power'])} power. ",
        tag("b", VERDICT_LABELS["shown"]),
        f" means that the difference is above 0, not that it is the claimed {percent(board['claimed_gain'], True)}; "
        "the line below answers that. ",
        tag("b", VERDICT_LABELS["behind"]),
        " means that it is below 0, by the same rule. ",
        tag("b", VERDICT_LABELS["contradicted"]),
        " means that neither is shown, and the interval lies below the claimed gain. Only methods under test get "
        "a verdict. An arrow stands for a difference beyond the axis.",
    ]
    if has_oracle:
        parts.append(" Dashed: the oracle, which ranks by the generator's true probabilities.")
    return tag("p", join(*parts), class_="note")
