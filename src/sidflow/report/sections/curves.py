"""Training: curves of every model, the epoch that was kept, and where more epochs may help."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.charts import sparkline
from sidflow.report.data import ReportData, Rows
from sidflow.report.markup import Markup, best_first, metric_title, style_class, tag

_MAX_CURVES = 6
_LOSSES = {"rank": "ranking loss", "align": "alignment loss"}  # parts of the loss of a base model with content
_SELECTION = ("valid_ndcg", "all_objective")  # prefixes of the column that selects the epoch: recommenders, quantizer


def training_section(data: ReportData) -> Markup | None:
    """Return a row of curves for the quantizer and for each recommender that was trained by epochs."""
    models = [("quantizer", data.quantizer_curves, data.quantizer_summary, "method")]
    models += [
        (name, data.curves[name], data.summaries[name], style_class(name, data.leaderboard))
        for name in best_first(data)
    ]
    rows = [_training_row(*model) for model in models if len(model[1]) > 1]
    if not rows:
        return None
    note = (
        "Each curve runs from the first epoch to the last. A dot marks the epoch that was kept: a recommender's is "
        "selected on validation, the quantizer's by its objective on all items. Still improving: the best epoch is the "
        "last one, because training reached its limit of epochs before early stopping; more epochs may help. The mark "
        "is left out where a cosine schedule lowers the learning rate to zero, since its last epochs should be best."
    )
    return tag("section", tag("h2", "Training"), *rows, tag("p", note, class_="note"))


def still_improving(rows: Rows, summary: Mapping) -> bool:
    """Return whether training reached its limit of epochs while the figure that selects the epoch still improved."""
    selected = any(column.startswith(_SELECTION) for column in rows[0])
    return (
        selected
        and not _falls_to_zero(summary.get("params", {}))
        and summary.get("best_epoch") == int(float(rows[-1]["epoch"]))
    )


def _falls_to_zero(settings: Mapping) -> bool:
    """Return whether the learning rate ends at zero; a method around a base model has its loop in `model`."""
    loop = settings.get("loop") or settings.get("model", {}).get("loop", {})
    return loop.get("schedule") == "cosine"


def _training_row(name: str, rows: Rows, summary: Mapping, style: str) -> Markup:
    columns = [column for column in rows[0] if column != "epoch"]
    columns.sort(key=lambda column: (not column.startswith(_SELECTION), not column.startswith("valid")))
    sparks = []
    for column in columns[:_MAX_CURVES]:
        points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        if not points:
            continue
        x, y = [point[0] for point in points], [point[1] for point in points]
        epoch = summary.get("best_epoch")
        best = x.index(epoch) if column.startswith(_SELECTION) and epoch in x else None
        sparks.append(sparkline(_title(column), x, y, best, style))
    warning = "still improving at the limit of epochs" if still_improving(rows, summary) else None
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
        return _LOSSES.get(column, column.replace("_", " "))
    return f"{'validation ' if column.startswith('valid_') else ''}{metric_title(column.removeprefix('valid_'))}"
