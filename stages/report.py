"""Draw the report: one self-contained page. Run: dvc repro report."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.reports import FIGURES, PAGE
from sidflow.contracts.running import stage
from sidflow.evaluation.params import EvaluateParams
from sidflow.report.figures import figures
from sidflow.report.gather import gather
from sidflow.report.page import page
from sidflow.report.params import ReportParams
from sidflow.report.plots import write_plots


def main() -> None:
    """Read what was made of the recommenders in params, write report/report.html, metrics.json and plots/."""
    with stage("report"):
        settings = params.load("report", ReportParams)
        cuts = params.load("evaluate", EvaluateParams).model_dump()
        given = gather(str(params.load_value("preset")), list(params.load_value("recommenders")), cuts)
        PAGE.write(page(given, settings))
        FIGURES.write(figures(given))
        write_plots(given.curves, given.slices, given.spectra)


if __name__ == "__main__":
    typer.run(main)
