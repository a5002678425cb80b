"""Fit a recommender that only counts (popularity, Markov, co-occurrence, ...). Run: dvc repro count@cooccurrence."""

import typer

from sidflow.contracts import params
from sidflow.contracts.running import stage
from sidflow.recommenders.counting import fitting


def main(model: str) -> None:
    """Read the split, choose the setting on validation, write factors and summary."""
    with stage(f"count@{model}"):
        method = fitting.known(model, fitting.COUNTED, "count")
        fitting.count(model, params.load(f"count.{model}", method.params))


if __name__ == "__main__":
    typer.run(main)
