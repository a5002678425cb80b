"""The tables that `dvc plots` draws: one per plot, with a row per recommender and point."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.contracts.artifacts.reports import SINGULAR_VALUES_PLOT, SLICES_PLOT, VALIDATION_PLOT
from sidflow.contracts.documents import Curve

Rows = list[dict[str, str]]
COLUMNS: dict[Curve, tuple[str, ...]] = {
    VALIDATION_PLOT: ("recommender", "epoch", "valid_ndcg_at_10"),
    SLICES_PLOT: ("recommender", "slice", "ndcg_at_10"),
    SINGULAR_VALUES_PLOT: ("recommender", "dimension", "singular_value"),
}


def write_plots(curves: Mapping[str, Rows], slices: Mapping[str, Rows], spectra: Mapping[str, Rows]) -> None:
    """Write the plot tables, recommenders in the order of the mappings.

    Args:
        curves: each recommender's training curve; empty for one that is not trained by epochs.
        slices: each recommender's metrics by slice.
        spectra: the singular values of each recommender's matrices. The item matrix is plotted, of recommenders that
            are trained by epochs: those of counts are larger by orders of magnitude.
    """
    matrices = {
        name: [row for row in spectra[name] if row["matrix"] == "item_matrix"] for name in curves if curves[name]
    }
    sources = (curves, slices, matrices)
    for (plot, columns), tables in zip(COLUMNS.items(), sources, strict=True):
        rows = [{**row, "recommender": name} for name, table in tables.items() for row in table]
        plot.write([row for row in rows if all(row.get(column) for column in columns)], columns)
