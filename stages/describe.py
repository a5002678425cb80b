"""Describe each item in three views: of its text, its picture, and both. Run: dvc repro describe."""

import typer

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.artifacts.features import SEMANTICS
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.semantics.rules import DescribeParams, describe_items


def main() -> None:
    """Read the catalogue, describe every item, write the views."""
    with stage("describe"):
        settings = params.load_section("describe", DescribeParams)
        SEMANTICS.write(describe_items(ITEMS.read(), IMAGES.read(), settings.writer))


if __name__ == "__main__":
    typer.run(main)
