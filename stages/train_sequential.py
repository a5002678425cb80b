"""Train a sequential recommender, stopped early on validation. Run: dvc repro train_sequential@MODEL."""

import typer

from sidflow.core.params import require_listed
from sidflow.core.stage import stage
from sidflow.sequential.fit import load_setup, train_and_write
from sidflow.sequential.model import IdEmbedding
from sidflow.sequential.params import load_sequential


def main(model: str) -> None:
    """Read split, write recommenders/MODEL."""
    with stage(f"train_sequential@{model}"):
        require_listed(model, "train_sequential")
        settings = load_sequential(model)
        setup = load_setup(f"train_sequential@{model}")

        def items() -> IdEmbedding:
            return IdEmbedding(setup.count, settings.dimensions, settings.init_std)

        train_and_write(setup, settings, items, settings.model_dump(mode="json"))


if __name__ == "__main__":
    typer.run(main)
