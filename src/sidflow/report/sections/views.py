"""How the writing of views went: answers, failures, lengths, and what views get right where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.data import ReportData
from sidflow.report.markup import Markup, number, percent, tag

VIEWS = ("text", "image", "joint", "keywords")
COUNTS = {
    "views": "views",
    "failed": "failed",
    "repaired": "repaired",
    "asked_again": "asked again",
    "repeated": "of several items",
}
ATTRIBUTES = ("category", "colour", "style", "pattern")


def views_section(data: ReportData) -> Markup | None:
    """Return a row per view; None where `describe` has left no figures."""
    report = data.describe
    views = [view for view in VIEWS if f"{view}_views" in report]
    if not views:
        return None
    attributes = [name for name in ATTRIBUTES if any(report.get(f"{view}_{name}_items") for view in views)]
    heads = [*COUNTS.values(), "words", *(f"{name} right" for name in attributes)]
    rows = [
        tag(
            "tr",
            tag("th", view, scope="row"),
            *(tag("td", number(int(report.get(f"{view}_{name}", 0)))) for name in COUNTS),
            tag("td", number(float(report[f"{view}_words"]), 1)),
            *(_accuracy_cell(report, f"{view}_{name}") for name in attributes),
        )
        for view in views
    ]
    head = tag("tr", tag("th", "view"), *(tag("th", title, scope="col") for title in heads))
    note = (
        "A failed view is absent, never invented. Of several items: views whose text another item has too. Words are "
        "the mean of a view."
    )
    truth = (
        " Right: the share of items whose view names the true value first; small, items that name one, of all. Words "
        "tell no pattern, and not always the colour."
    )
    return tag(
        "section",
        tag("h2", "Views of the items"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        tag("p", note + (truth if attributes else ""), class_="note"),
    )


def _accuracy_cell(report: Mapping, name: str) -> Markup:
    items = report.get(f"{name}_items", 0)
    if not items:
        return tag("td", "")
    named = tag("small", f"{number(report[f'{name}_said'])} of {number(items)}")
    return tag("td", percent(report[f"{name}_accuracy"], digits=1), named)
