"""Fit a counting recommender that reads one further artifact, its `features`. Run: dvc repro informed@oracle."""

import typer

from sidflow.contracts import params
from sidflow.contracts.running import stage
from sidflow.recommenders.counting import fitting


def main(model: str) -> None:
    """Read the split and the features, choose the setting on validation, write factors and summary."""
    with stage(f"informed@{model}"):
        kind = fitting.known(model, fitting.INFORMED, "informed")
        fitting.informed(model, params.load(f"informed.{model}", kind))


if __name__ == "__main__":
    typer.run(main)
