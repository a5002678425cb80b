"""Train a small network that ranks candidates by counts and similarities. Run: dvc repro train_ranker@MODEL."""

import typer

from sidflow.artifacts.catalog import core_count
from sidflow.candidate_ranking.fit import fit_candidate_ranker
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.sequences.histories import load_histories_for_ranking


def main(model: str) -> None:
    """Read split and embeddings, write recommenders/MODEL."""
    with stage(f"train_ranker@{model}"):
        params.require_listed(model, "train_ranker")
        settings = params.load_section(f"train_ranker.{model}", CandidateRankerParams)
        seed, threads = params.load_seed(), params.load_threads()
        fit_candidate_ranker(model, settings, load_histories_for_ranking(), core_count(), seed, threads)


if __name__ == "__main__":
    typer.run(main)
