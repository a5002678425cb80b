"""Slices: nDCG@10 by kinds of queries."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, best_first, number, style_class, tag


def slices_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return a table of nDCG@10 by slice, darker where better; None where there are no slices."""
    names = best_first(data)
    if not names or not data.slices[names[0]]:
        return None
    queries = {row["slice"]: int(row["queries"]) for row in data.slices[names[0]]}
    shown = [part for part, count in queries.items() if part == "all" or 0 < count < queries["all"]]
    users = {row["slice"]: int(row["users"]) for row in data.slices[names[0]]}
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
    head = tag(
        "tr",
        tag("th", "", scope="col"),
        *[
            tag("th", glossary.link(part.replace("_", " ")), tag("small", f"{number(users[part])} users"), scope="col")
            for part in shown
        ],
    )
    rows = [
        tag(
            "tr",
            tag("th", tag("span", name, class_=f"who {style_class(name, data.leaderboard)}"), scope="row"),
            *[
                tag(
                    "td",
                    number(values[name].get(part), 3),
                    style=f"--heat:{heat[part].get(name, 0.0):.2f}",
                )
                for part in shown
            ],
        )
        for name in names
    ]
    return tag(
        "section",
        tag("h2", "Metrics by kinds of queries"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="heat"), class_="wide"),
        tag(
            "p",
            "Realised nDCG@10 by the target's popularity in training, by the length of the history, by whether "
            "training has the transition from the last item to the target, and by whether the target has text and a "
            "picture. Slices that hold all queries or none are left out. Darker is nearer to the best of the column.",
            class_="note",
        ),
    )


def _relative_to_column(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {name: (value - low) / (high - low) if high > low else 0.0 for name, value in values.items()}
