"""Where it is won: the metric by kinds of queries."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, number, tag
from sidflow.report.naming import look, ordered


def slices(given: Gathered, words: Glossary) -> Markup | None:
    """Return a table of nDCG@10 by kinds of queries, darker where better."""
    names = ordered(given)
    if not names or not given.slices[names[0]]:
        return None
    queries = {row["slice"]: int(row["queries"]) for row in given.slices[names[0]]}
    kept = [part for part, count in queries.items() if part == "all" or 0 < count < queries["all"]]
    users = {row["slice"]: int(row["users"]) for row in given.slices[names[0]]}
    values = {
        name: {row["slice"]: float(row["ndcg_at_10"]) for row in given.slices[name] if row["ndcg_at_10"]}
        for name in names
    }
    kinds = given.leaderboard["recommenders"]
    heat = {
        part: _heat({name: values[name].get(part, 0.0) for name in names if kinds[name]["kind"] != "reference"})
        for part in kept
    }
    head = tag(
        "tr",
        tag("th", "", scope="col"),
        *[
            tag("th", words.link(part.replace("_", " ")), tag("small", f"{number(users[part])} users"), scope="col")
            for part in kept
        ],
    )
    rows = [
        tag(
            "tr",
            tag("th", tag("span", name, class_=f"who {look(name, given.leaderboard)}"), scope="row"),
            *[
                tag(
                    "td",
                    number(values[name].get(part), 3),
                    style=f"--heat:{heat[part].get(name, 0.0):.2f}",
                )
                for part in kept
            ],
        )
        for name in names
    ]
    return tag(
        "section",
        tag("h2", "Where it is won"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="heat"), class_="wide"),
        tag(
            "p",
            "Realised nDCG@10 by the target's popularity in training, by the length of the history, by whether the "
            "step from the last item to the target was seen in training, and by what the catalogue lacks of the "
            "target; only where some queries belong and others don't. Darker is nearer to the best of the column.",
            class_="note",
        ),
    )


def _heat(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
    return {name: (value - low) / (high - low) if high > low else 0.0 for name, value in values.items()}
