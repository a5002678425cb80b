"""Train a sequential recommender, stopped early on validation. Run: dvc repro train_sequential@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural.items import IdEmbedding
from sidflow.recommenders.neural.params import load_sequential
from sidflow.recommenders.neural.run import load_setup, train_and_write


def main(model: str) -> None:
    """Read split, write recommenders/MODEL."""
    with stage(f"train_sequential@{model}"):
        settings = load_sequential(model)
        setup = load_setup(f"train_sequential@{model}")

        def items() -> IdEmbedding:
            return IdEmbedding(setup.count, settings.dimensions, settings.init_std)

        train_and_write(setup, settings, items, settings.model_dump(mode="json"))


if __name__ == "__main__":
    typer.run(main)
