"""How often each code of the semantic IDs is used, and how many items share all their codes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from sidflow.report import charts
from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, percent, tag

REFERENCE = "reference_"  # before the figures of residual k-means in the audit


def codes(given: Gathered, words: Glossary) -> Markup | None:
    """Return the use of codes per modality and level, most used first, and what the audit counted of collisions."""
    frame = given.semantic_ids
    if frame.is_empty():
        return None
    grids = []
    for modality in sorted(frame["modality"].unique().to_list()):
        part = frame.filter(pl.col("modality") == modality)
        table = part["codes"].to_numpy()
        cells = [_level(modality, level, table[:, level], words) for level in range(table.shape[1])]
        grids.append(
            tag(
                "div",
                tag("h3", modality, tag("small", f"{number(part.height)} items")),
                _collisions(modality, given.audit),
                tag("div", *cells, class_="sparks"),
                class_="run",
            )
        )
    note = join(
        "Items per code, most used first; dashed: the same number of codes used alike. The ",
        words.link("collision rate"),
        " counts every item of a group that shares all codes, the first one too. Within a group a suffix tells items "
        "apart: 0 for the first, then 1, 2, ...",
    )
    return tag(
        "section",
        tag("h2", "Semantic IDs: how codes are used"),
        *grids,
        _against_reference(given, words),
        tag("p", note, class_="note"),
    )


def _against_reference(given: Gathered, words: Glossary) -> Markup | None:
    """Return the audit of the IDs beside that of residual k-means; nothing where the run has no reference."""
    audit = given.audit
    recall = next((name for name in audit if name.startswith(f"{REFERENCE}neighbour_recall_at_")), None)
    if recall is None:
        return None
    stem = recall.removeprefix(REFERENCE).rpartition("_")[0]
    columns = {
        f"{stem}_": words.link("neighbour recall"),
        "tau_": words.link("tau"),
        "tau_triples_": words.link("tau triples", "tau over triples"),
        "collision_rate_distinct_": words.link("collision rate", "collisions among distinct inputs"),
        "reconstruction_error_": words.link("reconstruction error"),
    }
    method = str(given.quantizer_summary.get("method", "these IDs"))
    rows = []
    for modality in sorted(given.semantic_ids["modality"].unique().to_list()):
        for who, start in ((method, ""), ("rq-kmeans", REFERENCE)):
            values = (audit.get(f"{start}{column}{modality}") for column in columns)
            cells = [tag("td", number(value)) for value in values]
            rows.append(tag("tr", tag("th", modality, tag("small", who), scope="row"), *cells))
    head = tag("tr", tag("th", ""), *(tag("th", title, scope="col") for title in columns.values()))
    return tag(
        "div",
        tag("h3", "Beside residual k-means"),
        tag("p", "Both under one audit, on the same rows with as many codes, before suffixes.", class_="note"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        class_="run",
    )


def _level(modality: str, level: int, column: np.ndarray, words: Glossary) -> Markup:
    counts = np.sort(np.bincount(column))[::-1]
    share = counts[counts > 0] / counts.sum()
    used, perplexity = len(share), float(np.exp(-(share * np.log(share)).sum()))
    said = f"{modality}, level {level}: {used} codes used, as if {perplexity:.0f} were used alike"
    return tag(
        "div",
        charts.columns(said, counts.tolist(), "method", counts.sum() / used),
        tag("p", f"level {level}: {used} codes, ", words.link("perplexity"), f" {perplexity:.0f}"),
    )


def _collisions(modality: str, audit: Mapping) -> Markup | None:
    """Return the audit's collision rates in words; nothing where the audit has none."""
    rate = audit.get(f"collision_rate_{modality}")
    if rate is None:
        return None
    groups = audit[f"collision_groups_{modality}"]
    said = (
        f"{percent(rate, digits=1)} of {number(audit[f'items_{modality}'])} items share all their codes with another "
        f"one before suffixes: {number(audit[f'collision_items_{modality}'])} items in "
        f"{number(groups)} group{'' if groups == 1 else 's'}."
    )
    distinct, resolved = (audit.get(f"collision_rate_{kind}_{modality}") for kind in ("distinct", "resolved"))
    if distinct is not None:
        count = number(audit[f"items_distinct_{modality}"])
        said += f" Among the {count} items with distinct inputs: {percent(distinct, digits=1)}."
    if resolved is not None and resolved != rate:
        said += f" After reassignment: {percent(resolved, digits=1)}."
    return tag("p", said, class_="note")
