"""How training went: small curves, which epoch was kept, and where training ended too soon."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report import charts
from sidflow.report.gather import Gathered, Rows
from sidflow.report.markup import Markup, tag
from sidflow.report.naming import look, ordered, pretty

_MOST_SPARKS = 6
_DECIDES = ("valid_ndcg", "all_objective")  # how columns that choose the epoch begin: recommenders, the quantizer


def curves(given: Gathered) -> Markup | None:
    """Return one row of small curves for the quantizer and for every recommender that was trained by epochs."""
    trained = [("quantizer", given.quantizer_curves, given.quantizer_summary, "method")]
    trained += [
        (name, given.curves[name], given.summaries[name], look(name, given.leaderboard)) for name in ordered(given)
    ]
    rows = [_row(*one) for one in trained if len(one[1]) > 1]
    if not rows:
        return None
    note = (
        "Each curve from the first epoch to the last; a dot marks the epoch that was kept: a recommender's is chosen "
        "on validation, the quantizer's by its objective on all items. Still improving: the best epoch is the last "
        "one, so that training ended at the limit of epochs and not by early stop; more epochs may give more. Not said "
        "where the learning rate falls to zero along a cosine: there the last epochs are meant to be the best."
    )
    return tag("section", tag("h2", "Training"), *rows, tag("p", note, class_="note"))


def unfinished(rows: Rows, summary: Mapping) -> bool:
    """Return whether training ended at its limit of epochs while the figure that chooses the epoch still improved."""
    decided = any(column.startswith(_DECIDES) for column in rows[0])
    return (
        decided
        and not _falls_to_zero(summary.get("params", {}))
        and summary.get("best_epoch") == int(float(rows[-1]["epoch"]))
    )


def _falls_to_zero(settings: Mapping) -> bool:
    """Return whether the training's learning rate ends at zero; methods around a recommender keep it in `model`."""
    loop = settings.get("loop") or settings.get("model", {}).get("loop", {})
    return loop.get("schedule") == "cosine"


def _row(name: str, rows: Rows, summary: Mapping, style: str) -> Markup:
    columns = [column for column in rows[0] if column != "epoch"]
    columns.sort(key=lambda column: (not column.startswith(_DECIDES), not column.startswith("valid")))
    sparks = []
    for column in columns[:_MOST_SPARKS]:
        points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        if not points:
            continue
        x, y = [point[0] for point in points], [point[1] for point in points]
        kept = summary.get("best_epoch")
        best = x.index(kept) if column.startswith(_DECIDES) and kept in x else None
        sparks.append(charts.spark(_title(column), x, y, best, style))
    warning = "still improving at the limit of epochs" if unfinished(rows, summary) else None
    return tag(
        "div",
        tag(
            "h3",
            name,
            tag("small", f"{len(rows)} epochs"),
            tag("span", warning, class_="chip warn") if warning else None,
        ),
        tag("div", *sparks, class_="sparks"),
        class_="run",
    )


def _title(column: str) -> str:
    if column.startswith("all_"):
        return f"{column.removeprefix('all_').replace('_', ' ')}, all items"
    if "_at_" not in column:
        return column.replace("_", " ")
    return f"{'validation ' if column.startswith('valid_') else ''}{pretty(column.removeprefix('valid_'))}"
