"""Train a sequential recommender that is given content. Run: dvc repro train_multimodal@MODEL."""

import typer

from sidflow.contracts.running import stage
from sidflow.recommenders.neural import run
from sidflow.recommenders.neural.multimodal import item_maker, load_multimodal, prior_maker


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"train_multimodal@{model}"):
        settings, base = load_multimodal(model)
        begun = run.begin(f"train_multimodal@{model}")
        items = item_maker(settings, base, begun.count)
        prior = prior_maker(settings.hybrid, begun.count)
        described = settings.model_dump(mode="json") | {"model": base.model_dump(mode="json")}
        run.finish(begun, base, items, described, prior)


if __name__ == "__main__":
    typer.run(main)
