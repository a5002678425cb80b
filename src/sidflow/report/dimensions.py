"""How recommenders use the dimensions of their item vectors: singular values and what is read off them."""

from __future__ import annotations

import math

from sidflow.report import charts
from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, number, tag
from sidflow.report.naming import look, ordered


def spectra(given: Gathered, words: Glossary) -> Markup | None:
    """Return the singular values of learned item tables, and what is read off them."""
    series, rows = [], []
    learned = [name for name in ordered(given) if "item_table_effective_rank" in given.metrics[name]]
    table = "item_table" if learned else "item_matrix"
    for name in learned or ordered(given):
        values = [float(row["singular_value"]) for row in given.spectra[name] if row["matrix"] == table]
        if len(values) < 2 or values[0] <= 0:
            continue
        style = look(name, given.leaderboard)
        shown = [value / values[0] for value in values if value > 0]
        places = [place / len(values) for place in range(1, len(shown) + 1)]
        series.append(charts.Series(name, places, shown, style))
        metrics = given.metrics[name]
        cells = [tag("td", number(len(values)))]
        for measure, digits in (
            ("effective_rank", 1),
            ("information_abundance", 1),
            ("alive_share", 2),
            ("isotropy", 2),
            ("mean_cosine", 2),
        ):
            value = metrics.get(f"{table}_{measure}")
            cells.append(tag("td", number(value if value is None else float(value), digits)))
        rows.append(tag("tr", tag("th", tag("span", name, class_=f"who {style}"), scope="row"), *cells))
    if not series:
        return None
    heads = [
        "",
        "dimensions",
        "effective rank",
        "information abundance",
        "share not collapsed",
        "isotropy",
        "mean cosine",
    ]
    chart = charts.lines(
        "Singular values of item vectors, relative to the largest, over the share of dimensions",
        series,
        "share of dimensions",
        "singular value, largest = 1",
        log_y=any(math.log10(max(min(one.y), 1e-12)) < -1 for one in series),
    )
    table = tag(
        "table",
        tag("thead", tag("tr", *[tag("th", words.link(head), scope="col") for head in heads])),
        tag("tbody", *rows),
        class_="plain",
    )
    return tag(
        "section",
        tag("h2", "How dimensions are used"),
        tag("div", chart, class_="wide"),
        tag("div", table, class_="wide"),
        tag(
            "p",
            f"Of {'what each recommender learned of the items' if learned else 'the matrix that scores items'}. "
            "A line that falls early has collapsed: most of its dimensions carry nothing.",
            class_="note",
        ),
    )
