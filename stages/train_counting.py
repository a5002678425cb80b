"""Fit a recommender that counts (popularity, Markov, EASE, ...). Run: dvc repro train_counting@cooccurrence."""

import typer

from sidflow.core.params import require_listed
from sidflow.core.stage import stage
from sidflow.counting.fit import fit_counting, load_counting


def main(model: str) -> None:
    """Read the split, choose the setting on validation, write factors and summary."""
    with stage(f"train_counting@{model}"):
        require_listed(model, "train_counting")
        fit_counting(model, load_counting("train_counting", model))


if __name__ == "__main__":
    typer.run(main)
