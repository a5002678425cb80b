"""Train a sequential recommender, stopped early on validation. Run: dvc repro train_sequential@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural import run
from sidflow.recommenders.neural.items import IdEmbedding
from sidflow.recommenders.neural.params import load_sequential


def main(model: str) -> None:
    """Read split, write recommenders/MODEL."""
    with stage(f"train_sequential@{model}"):
        chosen = load_sequential(model)
        begun = run.begin(f"train_sequential@{model}")

        def items() -> IdEmbedding:
            return IdEmbedding(begun.count, chosen.dimensions, chosen.init_std)

        run.finish(begun, chosen, items, chosen.model_dump(mode="json"))


if __name__ == "__main__":
    typer.run(main)
