"""Use of dimensions: the singular values of each recommender's item vectors, and measures of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sidflow.report.charts import Series, line_chart
from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, best_first, number, style_class, tag

MEASURES = {  # by head: its name in the metrics, and decimals
    "effective rank": ("effective_rank", 1),
    "information abundance": ("information_abundance", 1),
    "share not collapsed": ("alive_share", 2),
    "isotropy": ("isotropy", 2),
    "mean cosine": ("mean_cosine", 2),
}


def dimensions_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return a chart of singular values and a table of their measures, of learned item tables where there are any."""
    series, rows = [], []
    learned = [name for name in best_first(data) if "item_table_effective_rank" in data.metrics[name]]
    matrix = "item_table" if learned else "item_matrix"
    for name in learned or best_first(data):
        values = [float(row["singular_value"]) for row in data.spectra[name] if row["matrix"] == matrix]
        if len(values) < 2 or values[0] <= 0:
            continue
        style = style_class(name, data.leaderboard)
        relative = [value / values[0] for value in values if value > 0]
        positions = [index / len(values) for index in range(1, len(relative) + 1)]
        series.append(Series(name, positions, relative, style))
        head = tag("th", tag("span", name, class_=f"who {style}"), scope="row")
        rows.append(tag("tr", head, tag("td", number(len(values))), *_measure_cells(data.metrics[name], matrix)))
    if not series:
        return None
    chart = line_chart(
        "Singular values of item vectors, relative to the largest, over the share of dimensions",
        series,
        "share of dimensions",
        "singular value, largest = 1",
        log_y=any(math.log10(max(min(line.y), 1e-12)) < -1 for line in series),
    )
    table = tag(
        "table",
        tag(
            "thead", tag("tr", *[tag("th", glossary.link(head), scope="col") for head in ("", "dimensions", *MEASURES)])
        ),
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


def _measure_cells(metrics: Mapping, matrix: str) -> list[Markup]:
    values = [(metrics.get(f"{matrix}_{measure}"), digits) for measure, digits in MEASURES.values()]
    return [tag("td", number(value if value is None else float(value), digits)) for value, digits in values]
