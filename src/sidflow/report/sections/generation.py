"""Recommenders that generate semantic IDs: what sharing an ID is worth, what beams miss, whether new items come up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import ABSENT, Markup, metric_title, number, percent, tag

RECALL, METRIC = "beam_recall_of_exact_top_10", "ndcg_at_10"  # in summary.json, and in the metrics
AUDITED = ("ndcg_at_10", "recall_at_10")  # of the exact ranking and of the beam, on the same validation queries
NOTE = (
    "Where several items share an ID, a hit is one among that many: the metric is the mean over the ranks of the tie. "
    "By ID, each of them counts as the target, as in scripts that compare IDs. Beam recall: the share of the ten most "
    "probable IDs that a beam of that width finds, over some validation queries. On validation: metrics of the same "
    "queries, by the exact ranking and by the recommender's own beam; their difference is what the beam costs. New "
    "items: those outside the core that have an ID, and their share of the first ten when they may be generated too."
)


def generation_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return a row for each recommender that generates IDs; None where there is none."""
    generating = {name: summary for name, summary in data.summaries.items() if RECALL in summary}
    if not generating:
        return None
    widths = sorted({int(width) for summary in generating.values() for width in summary[RECALL]})
    title = metric_title(METRIC)
    head = [
        "",
        "items with an ID",
        glossary.link("collision rate", "items that share an ID"),
        title,
        f"{title} by ID",
        *(f"beam recall, {width}" for width in widths),
        *(f"{metric_title(metric)} on validation, {side}" for metric in AUDITED for side in ("exact", "beam")),
        "new items",
        "their share of the first ten",
    ]
    rows = [_row(name, summary, data.metrics[name], widths) for name, summary in generating.items()]
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))),
        tag("tbody", *rows),
    )
    return tag(
        "section",
        tag("h2", "Generated semantic IDs"),
        tag("div", table, class_="wide"),
        tag("p", NOTE, class_="note"),
    )


def _row(name: str, summary: Mapping[str, Any], metrics: Mapping[str, Any], widths: list[int]) -> Markup:
    new = summary["new_items"]
    cells = [
        f"{number(summary['items_with_id'])} of {number(summary['items'])}",
        percent(summary["id_collision_rate"], digits=1),
        number(metrics[METRIC]),
        number(metrics.get(f"{METRIC}_by_id", metrics[METRIC])),
        *(percent(summary[RECALL].get(str(width)), digits=1) for width in widths),
        *(number(summary[f"audit_{side}"].get(f"valid_{metric}")) for metric in AUDITED for side in ("exact", "beam")),
        number(new["items"]),
        percent(new["share_of_top_10"], digits=1) if "share_of_top_10" in new else ABSENT,
    ]
    ranking = f"{summary['ranking']} ranking"
    return tag("tr", tag("th", name, tag("small", ranking), scope="row"), *(tag("td", cell) for cell in cells))
