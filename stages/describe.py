"""Describe each item in views of its text, its picture, or both. Run: dvc repro describe."""

import typer

from sidflow.artifacts.catalog import IMAGES, ITEM_TRUTH, ITEMS
from sidflow.artifacts.features import DESCRIBE_REPORT, SEMANTICS
from sidflow.core import params
from sidflow.core.runtime import load_runtime
from sidflow.core.stage import stage
from sidflow.semantics.audit import truth_figures
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams


def main() -> None:
    """Read the catalogue, describe every item, write the views."""
    with stage("describe"):
        settings = params.load_section("describe", DescribeParams)
        described = describe_items(ITEMS.read(), IMAGES.read(), settings, load_runtime())
        SEMANTICS.write(described.semantics)
        figures = truth_figures(described.semantics, ITEM_TRUTH.read(), settings.views)
        DESCRIBE_REPORT.write({**described.report, **figures})


if __name__ == "__main__":
    typer.run(main)
