"""Draw the report: one self-contained page. Run: dvc repro report."""

import typer

from sidflow.artifacts.evaluation import FIGURES, PAGE, PER_QUERY
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.evaluation.compare import slice_intervals
from sidflow.evaluation.params import CompareParams, EvaluateParams
from sidflow.evaluation.slices import load_slice_masks
from sidflow.report.data import ReportParams, key_figures, read_report_data, write_plots
from sidflow.report.page import render_page


def main() -> None:
    """Read the artifacts of the recommenders in params; write report/report.html, metrics.json and plots/."""
    with stage("report"):
        settings = params.load_section("report", ReportParams)
        cuts = params.load_section("evaluate", EvaluateParams)
        bootstrap = params.load_section("compare", CompareParams)
        names, has_ids = list(params.load_param("recommenders")), bool(params.load_param("semantic_ids"))
        tables = {name: PER_QUERY.read(model=name) for name in names}
        intervals = slice_intervals(tables, load_slice_masks(cuts), bootstrap)
        preset = str(params.load_param("preset"))
        data = read_report_data(preset, names, cuts.model_dump(), intervals, semantic_ids=has_ids)
        PAGE.write(render_page(data, settings))
        FIGURES.write(key_figures(data))
        write_plots(data.curves, data.slices, data.spectra)


if __name__ == "__main__":
    typer.run(main)
