"""The second part of the page: how training went, how codes are used, how dimensions are used."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from sidflow.report import charts
from sidflow.report.board import look, ordered, pretty
from sidflow.report.gather import Gathered, Rows
from sidflow.report.markup import Markup, number, percent, tag

_MOST_SPARKS = 6


def curves(given: Gathered) -> Markup | None:
    """Return one row of small curves for the quantizer and for every recommender that was trained by epochs."""
    rows = [_curve_row("quantizer", given.quantizer_curves, "method")] if len(given.quantizer_curves) > 1 else []
    for name in ordered(given):
        if len(given.curves[name]) > 1:
            rows.append(_curve_row(name, given.curves[name], look(name, given.leaderboard)))
    if not rows:
        return None
    note = "Each curve from the first epoch to the last; a dot marks the epoch that was kept, chosen on validation."
    return tag("section", tag("h2", "Training"), *rows, tag("p", note, class_="note"))


def _curve_row(name: str, rows: Rows, style: str) -> Markup:
    columns = [column for column in rows[0] if column != "epoch"]
    columns = sorted(columns, key=lambda column: (not column.startswith("valid"), columns.index(column)))[:_MOST_SPARKS]
    sparks = []
    for column in columns:
        points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        if not points:
            continue
        x, y = [point[0] for point in points], [point[1] for point in points]
        best = int(np.argmax(y)) if column.startswith("valid_ndcg") else None
        title = pretty(column.removeprefix("valid_")) if "_at_" in column else column.replace("_", " ")
        title = f"validation {title}" if column.startswith("valid_") and "_at_" in column else title
        sparks.append(charts.spark(title, x, y, best, style))
    return tag(
        "div", tag("h3", name, tag("small", f"{len(rows)} epochs")), tag("div", *sparks, class_="sparks"), class_="run"
    )


def codes(given: Gathered) -> Markup | None:
    """Return how often each code is used, per modality and level, most used first."""
    frame = given.semantic_ids
    if frame.is_empty():
        return None
    grids = []
    for modality in sorted(frame["modality"].unique().to_list()):
        part = frame.filter(pl.col("modality") == modality)
        table = part["codes"].to_numpy()
        collided = int((part["suffix"] > 0).sum())
        cells = []
        for level in range(table.shape[1]):
            counts = np.sort(np.bincount(table[:, level]))[::-1]
            share = counts[counts > 0] / counts.sum()
            used, perplexity = len(share), float(np.exp(-(share * np.log(share)).sum()))
            said = f"{modality}, level {level + 1}: {used} codes used, as if {perplexity:.0f} were used alike"
            cells.append(
                tag(
                    "div",
                    charts.columns(said, counts.tolist(), "method", counts.sum() / used),
                    tag("p", f"level {level + 1}: {used} codes, perplexity {perplexity:.0f}"),
                )
            )
        suffixed = f"{number(part.height)} items, {percent(collided / part.height, digits=1)} share their codes"
        grids.append(
            tag("div", tag("h3", modality, tag("small", suffixed)), tag("div", *cells, class_="sparks"), class_="run")
        )
    note = (
        "Items per code, most used first; dashed: the same number of codes used alike. An item that shares all its "
        "codes with an earlier one is told apart by a suffix."
    )
    return tag("section", tag("h2", "Semantic IDs: how codes are used"), *grids, tag("p", note, class_="note"))


def spectra(given: Gathered) -> Markup | None:
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
        tag("thead", tag("tr", *[tag("th", head, scope="col") for head in heads])),
        tag("tbody", *rows),
        class_="plain",
    )
    return tag(
        "section",
        tag("h2", "How dimensions are used"),
        chart,
        tag("div", table, class_="wide"),
        tag(
            "p",
            f"Of {'what each recommender learned of the items' if learned else 'the matrix that scores items'}. "
            "A line that falls early has collapsed: most of its dimensions carry nothing.",
            class_="note",
        ),
    )
