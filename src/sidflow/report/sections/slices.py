"""Slices: nDCG@10 by kinds of queries."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, best_first, join, number, percent, style_class, tag

_WHOLE = "all"


def slices_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return a table of nDCG@10 by slice, in a stronger colour where better; None where there are no slices."""
    names = best_first(data)
    if not names or not data.slices[names[0]]:
        return None
    queries = {row["slice"]: int(row["queries"]) for row in data.slices[names[0]]}
    shown = [part for part, count in queries.items() if part == _WHOLE or 0 < count < queries[_WHOLE]]
    values = {
        name: {row["slice"]: float(row["ndcg_at_10"]) for row in data.slices[name] if row["ndcg_at_10"]}
        for name in names
    }
    kinds = data.leaderboard["recommenders"]
    heat = {
        part: _relative_to_column(
            {name: values[name].get(part, 0.0) for name in names if kinds[name]["kind"] != "reference"}
        )
        for part in shown
    }
    rows = []
    for name in names:
        intervals = {**data.slice_intervals.get(name, {}), _WHOLE: kinds[name]["metrics"]["ndcg_at_10"]}
        cells = [_cell(values[name].get(part), intervals.get(part), heat[part].get(name, 0.0)) for part in shown]
        head = tag("th", tag("span", name, class_=f"who {style_class(name, data.leaderboard)}"), scope="row")
        rows.append(tag("tr", head, *cells))
    table = tag("table", tag("thead", _head(data, names[0], shown, glossary)), tag("tbody", *rows), class_="heat")
    return tag(
        "section", tag("h2", "Metrics by kinds of queries"), tag("div", table, class_="wide"), _note(data, glossary)
    )


def _head(data: ReportData, name: str, shown: list[str], glossary: Glossary) -> Markup:
    users = {row["slice"]: int(row["users"]) for row in data.slices[name]}
    cells = [
        tag("th", glossary.link(part.replace("_", " ")), tag("small", f"{number(users[part])} users"), scope="col")
        for part in shown
    ]
    return tag("tr", tag("th", "", scope="col"), *cells)


def _cell(value: float | None, interval: Mapping[str, float] | None, heat: float) -> Markup:
    span = tag("small", f"{number(interval['low'], 3)} to {number(interval['high'], 3)}") if interval else None
    return tag("td", number(value, 3), span, style=f"--heat:{heat:.2f}")


def _note(data: ReportData, glossary: Glossary) -> Markup:
    text = (
        "Realised nDCG@10 by the target's popularity in training, by the length of the history, by whether "
        "training has the transition from the last item to the target, and by whether the target has text and a "
        "picture. Slices that hold all queries or none are left out. The stronger the colour, the nearer to the "
        "best of the column. "
    )
    level = percent(data.leaderboard["level"])
    interval = join(
        f"Small: {level} ", glossary.link("interval"), " over the users of the slice; of few users it is too narrow."
    )
    return tag("p", text, interval, class_="note")


def _relative_to_column(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {name: (value - low) / (high - low) if high > low else 0.0 for name, value in values.items()}
