"""Train a sequential recommender on item vectors that get raw features too. Run: dvc repro featured@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural import content, features, run


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"featured@{model}"):
        chosen, base = features.load(model)
        begun = run.begin(f"featured@{model}")
        views = content.views(chosen.features, begun.count)

        def items() -> features.FeaturedItems:
            return features.FeaturedItems(views, begun.count, base.dimensions, base.init_std, chosen)

        run.finish(begun, base, items, chosen.model_dump(mode="json") | {"model": base.model_dump(mode="json")})


if __name__ == "__main__":
    typer.run(main)
