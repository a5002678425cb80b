"""Semantic IDs: how often each code is used, how many items collide, and residual k-means beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from sidflow.report.charts import column_chart
from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, percent, tag

REFERENCE = "reference_"  # prefix of residual k-means' figures in the audit


def codes_section(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return the use of codes by modality and level, most used first, and the rates of collisions."""
    frame = data.semantic_ids
    if frame.is_empty():
        return None
    grids = []
    for modality in sorted(frame["modality"].unique().to_list()):
        part = frame.filter(pl.col("modality") == modality)
        table = part["codes"].to_numpy()
        cells = [_level_chart(modality, level, table[:, level], glossary) for level in range(table.shape[1])]
        grids.append(
            tag(
                "div",
                tag("h3", modality, tag("small", f"{number(part.height)} items")),
                _collision_text(modality, data.audit),
                tag("div", *cells, class_="sparks"),
                class_="run",
            )
        )
    note = join(
        "Items per code, most used first. Dashed: the height if all codes in use had equally many. The ",
        glossary.link("collision rate"),
        " counts every item of a group that shares all codes, the first one included. Within a group a suffix tells "
        "items apart: 0 for the first, then 1, 2, ...",
    )
    return tag(
        "section",
        tag("h2", "Semantic IDs: use of the codes"),
        *grids,
        _reference_table(data, glossary),
        tag("p", note, class_="note"),
    )


def _reference_table(data: ReportData, glossary: Glossary) -> Markup | None:
    """Return the audit of the IDs beside that of residual k-means; None where the run has no reference."""
    audit = data.audit
    recall = next((name for name in audit if name.startswith(f"{REFERENCE}neighbour_recall_at_")), None)
    if recall is None:
        return None
    stem = recall.removeprefix(REFERENCE).rpartition("_")[0]
    columns = {
        f"{stem}_": glossary.link("neighbour recall"),
        "tau_": glossary.link("tau"),
        "tau_triples_": glossary.link("tau triples", "tau over triples"),
        "collision_rate_distinct_": glossary.link("collision rate", "collisions among distinct inputs"),
        "reconstruction_error_": glossary.link("reconstruction error"),
    }
    method = str(data.quantizer_summary.get("method", "these IDs"))
    rows = []
    for modality in sorted(data.semantic_ids["modality"].unique().to_list()):
        for quantizer, prefix in ((method, ""), ("rq-kmeans", REFERENCE)):
            values = (audit.get(f"{prefix}{column}{modality}") for column in columns)
            cells = [tag("td", number(value)) for value in values]
            rows.append(tag("tr", tag("th", modality, tag("small", quantizer), scope="row"), *cells))
    head = tag("tr", tag("th", ""), *(tag("th", title, scope="col") for title in columns.values()))
    return tag(
        "div",
        tag("h3", "Compared with residual k-means"),
        tag("p", "Both audited on the same items, with equally many codes, before suffixes.", class_="note"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        class_="run",
    )


def _level_chart(modality: str, level: int, column: np.ndarray, glossary: Glossary) -> Markup:
    counts = np.sort(np.bincount(column))[::-1]
    share = counts[counts > 0] / counts.sum()
    used, perplexity = len(share), float(np.exp(-(share * np.log(share)).sum()))
    title = f"{modality}, level {level}: {used} codes in use, perplexity {perplexity:.0f}"
    return tag(
        "div",
        column_chart(title, counts.tolist(), "method", counts.sum() / used),
        tag("p", f"level {level}: {used} codes, ", glossary.link("perplexity"), f" {perplexity:.0f}"),
    )


def _collision_text(modality: str, audit: Mapping) -> Markup | None:
    """Return the audit's collision rates in glossary; nothing where the audit has none."""
    rate = audit.get(f"collision_rate_{modality}")
    if rate is None:
        return None
    groups = audit[f"collision_groups_{modality}"]
    if not groups:
        return tag("p", f"No two of {number(audit[f'items_{modality}'])} items share all their codes.", class_="note")
    text = (
        f"{percent(rate, digits=1)} of {number(audit[f'items_{modality}'])} items share all their codes with another "
        f"one before suffixes: {number(audit[f'collision_items_{modality}'])} items in "
        f"{number(groups)} group{'' if groups == 1 else 's'}."
    )
    distinct, resolved = (audit.get(f"collision_rate_{kind}_{modality}") for kind in ("distinct", "resolved"))
    if distinct is not None:
        count = number(audit[f"items_distinct_{modality}"])
        text += f" Among the {count} items with distinct inputs: {percent(distinct, digits=1)}."
    if resolved is not None and resolved != rate:
        text += f" After reassignment: {percent(resolved, digits=1)}."
    return tag("p", text, class_="note")
