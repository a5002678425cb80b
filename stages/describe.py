"""Write what each item's words and picture say as three views: text, image and joint. Run: dvc repro describe."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.images import IMAGES
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.semantics import SEMANTICS
from sidflow.contracts.running import stage
from sidflow.semantics.params import DescribeParams
from sidflow.semantics.views import describe


def main() -> None:
    """Read the catalogue, describe every item, write the views."""
    with stage("describe"):
        settings = params.load("describe", DescribeParams)
        SEMANTICS.write(describe(ITEMS.read(), IMAGES.read(), settings.writer))


if __name__ == "__main__":
    typer.run(main)
