"""Train a sequential recommender on the training parts, stopped early on validation. Run: dvc repro train@MODEL."""

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.running import stage
from sidflow.recommenders.neural import run
from sidflow.recommenders.neural.items import ItemTable
from sidflow.recommenders.neural.params import load
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare


def main(model: str) -> None:
    """Read split, write recommenders/MODEL."""
    with stage(f"train@{model}"):
        chosen = load(model)
        seed, threads = params.load_value("seed"), params.load_value("threads")
        known, count = histories.load(), core_count()
        facts = {"params": chosen.model_dump(mode="json"), "seed": seed}
        checkpoint = Checkpoint(f"train@{model}", facts | {"threads": threads})
        device = prepare(seed, threads)
        items = ItemTable(count, chosen.dimensions, chosen.init_std)
        trained = run.train(
            f"train@{model}", chosen, items, known, count, seed=seed, device=device, checkpoint=checkpoint
        )
        run.write(model, trained, known, threads=threads, facts=facts)
        checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
