"""Fit a recommender that counts and compares item vectors. Run: dvc repro train_content@cooccurrence_content."""

import typer

from sidflow.core.params import require_listed
from sidflow.core.stage import stage
from sidflow.counting.fit import fit_counting, load_counting


def main(model: str) -> None:
    """Read the split and the vectors, choose the setting on validation, write factors and summary."""
    with stage(f"train_content@{model}"):
        require_listed(model, "train_content")
        fit_counting(model, load_counting("train_content", model))


if __name__ == "__main__":
    typer.run(main)
