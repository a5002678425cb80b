"""Make the catalogue of raw interactions, item texts and pictures. Run: dvc repro ingest."""

import typer

from sidflow.artifacts.catalog import IMAGES, INTERACTIONS, ITEM_TRUTH, ITEMS, TRUTH, USERS, clock_footer
from sidflow.artifacts.evaluation import INGEST
from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.core import params
from sidflow.core.stage import print_progress, stage


def main() -> None:
    """Run the stage."""
    with stage("ingest"):
        catalog = ingest(params.load_section("ingest", IngestParams))
        footer = clock_footer(catalog.interactions, has_clock=bool(catalog.report["timestamps_known"]))
        INTERACTIONS.write(catalog.interactions, footer)
        ITEMS.write(catalog.items)
        USERS.write(catalog.users)
        IMAGES.write(catalog.images)
        TRUTH.write(catalog.truth)
        ITEM_TRUTH.write(catalog.item_truth)
        INGEST.write(catalog.report)
        for warning in catalog.warnings:
            print_progress(f"warning: {warning}")
        print_progress(catalog.summary())


if __name__ == "__main__":
    typer.run(main)
