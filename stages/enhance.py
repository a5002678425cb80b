"""Train a sequential recommender on DMESR's fused item vectors, end to end. Run: dvc repro enhance@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural import content, run
from sidflow.recommenders.neural.fusion import FusedItems
from sidflow.recommenders.neural.params import load_dmesr


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"enhance@{model}"):
        chosen, base = load_dmesr(model)
        begun = run.begin(f"enhance@{model}")
        found = content.read(chosen, begun.count)

        def items() -> FusedItems:
            return FusedItems(found, begun.count, base.dimensions, base.init_std, chosen)

        run.finish(begun, base, items, chosen.model_dump(mode="json") | {"model": base.model_dump(mode="json")})


if __name__ == "__main__":
    typer.run(main)
