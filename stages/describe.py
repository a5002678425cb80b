"""Describe each item in three views: of its text, its picture, and both. Run: dvc repro describe."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.images import IMAGES
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.semantics import SEMANTICS
from sidflow.contracts.running import stage
from sidflow.semantics.params import DescribeParams
from sidflow.semantics.views import describe_items


def main() -> None:
    """Read the catalogue, describe every item, write the views."""
    with stage("describe"):
        settings = params.load_section("describe", DescribeParams)
        SEMANTICS.write(describe_items(ITEMS.read(), IMAGES.read(), settings.writer))


if __name__ == "__main__":
    typer.run(main)
