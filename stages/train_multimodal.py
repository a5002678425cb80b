"""Train a sequential recommender that is given content. Run: dvc repro train_multimodal@MODEL."""

import typer

from sidflow.core.params import require_listed
from sidflow.core.stage import stage
from sidflow.multimodal.fit import item_maker, load_multimodal, prior_maker
from sidflow.sequential.fit import load_setup, train_and_write


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"train_multimodal@{model}"):
        require_listed(model, "train_multimodal")
        settings, base = load_multimodal(model)
        setup = load_setup(f"train_multimodal@{model}")
        items = item_maker(settings, base, setup.count)
        prior = prior_maker(settings.hybrid, setup.count)
        stage_params = settings.model_dump(mode="json") | {"model": base.model_dump(mode="json")}
        train_and_write(setup, base, items, stage_params, prior)


if __name__ == "__main__":
    typer.run(main)
