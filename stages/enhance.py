"""Train a sequential recommender on DMESR's fused item vectors, end to end. Run: dvc repro enhance@MODEL."""

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.running import stage
from sidflow.recommenders.neural import content, run
from sidflow.recommenders.neural.fusion import FusedItems
from sidflow.recommenders.neural.params import load_dmesr
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"enhance@{model}"):
        chosen, base = load_dmesr(model)
        seed, threads = params.load_value("seed"), params.load_value("threads")
        known, count = histories.load(), core_count()
        found = content.read(chosen, count)
        facts = {"params": chosen.model_dump(mode="json") | {"model": base.model_dump(mode="json")}, "seed": seed}
        checkpoint = Checkpoint(f"enhance@{model}", facts | {"threads": threads})
        device = prepare(seed, threads)
        items = FusedItems(found, count, base.dimensions, base.init_std, chosen)
        trained = run.train(
            f"enhance@{model}", base, items, known, count, seed=seed, device=device, checkpoint=checkpoint
        )
        run.write(model, trained, known, threads=threads, facts=facts)
        checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
