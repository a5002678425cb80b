"""Order of the events: how often neighbours ascend by something other than time."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.artifacts.evaluation import EVENT_PAIRS, ITEM_ORDERS
from sidflow.report.data import ReportData
from sidflow.report.markup import Markup, percent, tag


def is_order_figure(name: str) -> bool:
    """Return whether a figure of the ingest report is shown in this section."""
    return name.startswith(tuple(f"{pairs}_ascending_" for pairs in EVENT_PAIRS))


def order_section(data: ReportData) -> Markup | None:
    """Return the shares of pairs that ascend beside those of shuffled sequences; None where none were measured."""
    report = data.ingest
    pairs = [kind for kind in EVENT_PAIRS if f"{kind}_ascending_key" in report]
    if not pairs:
        return None
    rows = [
        tag("tr", tag("th", title, scope="row"), *(_cell(report, f"{kind}_ascending_{order}") for kind in pairs))
        for order, title in ITEM_ORDERS.items()
        if f"pairs_ascending_{order}" in report
    ]
    head = tag("tr", tag("th", "pairs that ascend by"), *(tag("th", EVENT_PAIRS[kind], scope="col") for kind in pairs))
    note = (
        "Small: the same share after the items of every user are shuffled. Near 100% or 0%, sequences are sorted by "
        "something other than time, and all metrics are inflated."
    )
    return tag(
        "section",
        tag("h2", "Order of the events"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        tag("p", note, class_="note"),
    )


def _cell(report: Mapping, name: str) -> Markup:
    share, shuffled = (report.get(name), report.get(f"{name}_shuffled"))
    return tag("td", percent(share, digits=1), tag("small", percent(shuffled, digits=1)))
