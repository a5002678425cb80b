"""Use of dimensions: the singular values of each recommender's item vectors, and measures of them."""

from __future__ import annotations

import math

from sidflow.report.charts import Series, line_chart
from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, best_first, number, style_class, tag


def dimensions_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return a chart of singular values and a table of their measures, of learned item tables where there are any."""
    series, rows = [], []
    learned = [name for name in best_first(data) if "item_table_effective_rank" in data.metrics[name]]
    table = "item_table" if learned else "item_matrix"
    for name in learned or best_first(data):
        values = [float(row["singular_value"]) for row in data.spectra[name] if row["matrix"] == table]
        if len(values) < 2 or values[0] <= 0:
            continue
        style = style_class(name, data.leaderboard)
        relative = [value / values[0] for value in values if value > 0]
        positions = [index / len(values) for index in range(1, len(relative) + 1)]
        series.append(Series(name, positions, relative, style))
        metrics = data.metrics[name]
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
    chart = line_chart(
        "Singular values of item vectors, relative to the largest, over the share of dimensions",
        series,
        "share of dimensions",
        "singular value, largest = 1",
        log_y=any(math.log10(max(min(line.y), 1e-12)) < -1 for line in series),
    )
    table = tag(
        "table",
        tag("thead", tag("tr", *[tag("th", glossary.link(head), scope="col") for head in heads])),
        tag("tbody", *rows),
        class_="plain",
    )
    return tag(
        "section",
        tag("h2", "Use of dimensions"),
        tag("div", chart, class_="wide"),
        tag("div", table, class_="wide"),
        tag(
            "p",
            f"Of {'the item table that each recommender learned' if learned else 'the matrix that scores items'}. "
            "A line that falls early shows collapse: most dimensions carry no information.",
            class_="note",
        ),
    )
