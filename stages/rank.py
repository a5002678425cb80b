"""Rank every query's target by exact inner product, and keep the best items. Run: dvc repro rank@MODEL."""

import typer

from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.evaluation import TARGET_RANKS, TOP
from sidflow.artifacts.recommenders import FACTORS, LISTS_KEY, refit_in, refit_metadata
from sidflow.core import params
from sidflow.core.costs import timed_answers
from sidflow.core.stage import stage
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.sequences.histories import load_histories
from sidflow.sequences.split import SplitParams, draw_held_out_items


def main(model: str) -> None:
    """Read recommenders/MODEL, write rankings/MODEL."""
    with stage(f"rank@{model}"):
        settings = params.load_section("rank", RankParams)
        factors = FACTORS.read(model=model)
        histories = load_histories()._replace(exclude_history=settings.exclude_history)
        items, split = core_count(), params.load_section("split", SplitParams)
        held_out = draw_held_out_items(items, split) if split.held_out_items else None
        with timed_answers("rank", histories.query_count):
            ranking = rank_targets(
                factors.arrays,
                histories,
                items,
                settings,
                str(FACTORS.at(model=model)),
                held_out,
                lists=bool(factors.metadata.get(LISTS_KEY)),
            )
        top, target_ranks = ranking.tables()
        TOP.write(top, model=model)
        TARGET_RANKS.write(target_ranks, refit_metadata(refit_in(factors.metadata)), model=model)


if __name__ == "__main__":
    typer.run(main)
