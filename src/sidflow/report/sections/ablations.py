"""Ablations of MME-SID, where `sidflow ablations` has run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from sidflow.report.charts import difference_bar
from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import MINUS, Markup, join, number, tag

_FARTHEST = 3.0  # medians: what lies farther is drawn at the edge of the chart, so that the rest can be read


def ablations_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return the table of ablated models, with a chart of each difference from the full model."""
    if data.ablations is None:
        return None
    rows = data.ablations["rows"]
    ends = [max(abs(row["low"]), abs(row["high"])) for row in rows if "low" in row]
    axis_end = min(max(ends), _FARTHEST * median(ends)) or 1.0 if ends else 1.0
    heads = [
        tag("th", "MME-SID", scope="col"),
        tag("th", glossary.metric(data.ablations["metric"]), scope="col"),
        tag("th", class_="picture", scope="col"),
        tag("th", "minus the full model", scope="col"),
        tag("th", glossary.link("minimum detectable effect", "detectable"), scope="col"),
        tag("th", glossary.link("effective rank"), scope="col"),
        tag("th", glossary.link("share not collapsed"), scope="col"),
        tag("th", glossary.link("tau", "tau of code vectors"), scope="col"),
        tag("th", "seeds", scope="col"),
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", *heads)),
        tag("tbody", *[_ablation_row(row, axis_end) for row in rows]),
        class_="board",
    )
    return tag(
        "section",
        tag("h2", "Ablations of MME-SID"),
        tag("div", table, class_="wide"),
        tag(
            "p",
            "Each row leaves out or changes one part of the model. ",
            glossary.link("interval", "Intervals"),
            " are of the paired difference from the full model, over users, after averaging seeds. They are not "
            f"corrected for the number of rows. Run by sidflow ablations at commit {data.ablations['commit'][:10]}.",
            class_="note",
        ),
    )


def _ablation_row(row: Mapping, axis_end: float) -> Markup:
    cells = [tag("td", tag("b", number(row["mean"])))]
    if "difference" in row:
        span = f"{_signed(row['low'])} to {_signed(row['high'])}"
        style = "method" if row["low"] > 0 or row["high"] < 0 else "other"
        title = f"{row['row']} minus the full model: {_signed(row['difference'])}, from {span}"
        bar = difference_bar(title, row["difference"], row["low"], row["high"], axis_end, style)
        cells += [tag("td", bar, class_="picture narrow")]
        cells += [tag("td", join(tag("b", _signed(row["difference"])), tag("small", span)))]
    else:
        cells += [tag("td", class_="picture"), tag("td")]
    cells.append(tag("td", number(row.get("detectable"))))
    for name, digits in (("effective_rank", 1), ("alive_share", 2), ("tau_of_codes", 3)):
        cells.append(tag("td", number(row[name], digits)))
    return tag("tr", tag("th", row["row"], scope="row"), *cells, tag("td", number(row["seeds"])))


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)
