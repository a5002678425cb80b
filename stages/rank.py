"""Rank every query's target by exact inner product, and keep the best items. Run: dvc repro rank@MODEL."""

import typer

from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.factors import FACTORS
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.artifacts.rankings import TARGET_RANKS, TOP
from sidflow.contracts.histories import load_histories
from sidflow.contracts.running import stage
from sidflow.ranking.params import RankParams
from sidflow.ranking.ranks import rank_targets


def main(model: str) -> None:
    """Read recommenders/MODEL, write rankings/MODEL."""
    with stage(f"rank@{model}"):
        settings = params.load_section("rank", RankParams)
        factors = FACTORS.read(model=model)
        past = load_histories()._replace(exclude_history=settings.exclude_history)
        ranking = rank_targets(factors.arrays, past, core_count(), settings, str(FACTORS.at(model=model)))
        top, target_ranks = ranking.tables()
        TOP.write(top, model=model)
        TARGET_RANKS.write(target_ranks, refits.fact(refits.of(factors.metadata)), model=model)


if __name__ == "__main__":
    typer.run(main)
