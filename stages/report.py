"""Draw the report: one self-contained page. Run: dvc repro report."""

import typer

from sidflow.artifacts.evaluation import FIGURES, PAGE
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.evaluation.params import EvaluateParams
from sidflow.report.data import ReportParams, key_figures, read_report_data, write_plots
from sidflow.report.page import render_page


def main() -> None:
    """Read the artifacts of the recommenders in params; write report/report.html, metrics.json and plots/."""
    with stage("report"):
        settings = params.load_section("report", ReportParams)
        slice_cuts = params.load_section("evaluate", EvaluateParams).model_dump()
        names, has_ids = list(params.load_param("recommenders")), bool(params.load_param("semantic_ids"))
        data = read_report_data(str(params.load_param("preset")), names, slice_cuts, semantic_ids=has_ids)
        PAGE.write(render_page(data, settings))
        FIGURES.write(key_figures(data))
        write_plots(data.curves, data.slices, data.spectra)


if __name__ == "__main__":
    typer.run(main)
