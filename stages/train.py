"""Train a sequential recommender on the training parts, stopped early on validation. Run: dvc repro train@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural import run
from sidflow.recommenders.neural.items import ItemTable
from sidflow.recommenders.neural.params import load


def main(model: str) -> None:
    """Read split, write recommenders/MODEL."""
    with stage(f"train@{model}"):
        chosen = load(model)
        begun = run.begin(f"train@{model}")

        def items() -> ItemTable:
            return ItemTable(begun.count, chosen.dimensions, chosen.init_std)

        run.finish(begun, chosen, items, chosen.model_dump(mode="json"))


if __name__ == "__main__":
    typer.run(main)
