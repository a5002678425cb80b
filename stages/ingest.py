"""Make the catalogue of raw interactions, item texts and pictures. Run: dvc repro ingest."""

import typer

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.contracts import params
from sidflow.contracts.artifacts.images import IMAGES
from sidflow.contracts.artifacts.interactions import INTERACTIONS
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.reports import INGEST
from sidflow.contracts.artifacts.truth import TRUTH
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.running import print_progress, stage


def main() -> None:
    """Run the stage."""
    with stage("ingest"):
        catalog = ingest(params.load_section("ingest", IngestParams))
        INTERACTIONS.write(catalog.interactions)
        ITEMS.write(catalog.items)
        USERS.write(catalog.users)
        IMAGES.write(catalog.images)
        TRUTH.write(catalog.truth)
        INGEST.write(catalog.report)
        summary = "{users} users, {items_core} items ({items} in the catalogue), {interactions} interactions"
        print_progress(summary.format(**catalog.report))


if __name__ == "__main__":
    typer.run(main)
