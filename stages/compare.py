"""Compare all recommenders that params name: intervals, differences, verdicts. Run: dvc repro compare."""

import typer

from sidflow.artifacts.evaluation import LEADERBOARD, PER_QUERY
from sidflow.artifacts.recommenders import refit_in
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.evaluation.compare import build_leaderboard, require_same_refit
from sidflow.evaluation.params import CompareParams


def main() -> None:
    """Read evaluations/ of the recommenders in params, write reports/leaderboard.json."""
    with stage("compare"):
        settings = params.load_section("compare", CompareParams)
        tables = {name: PER_QUERY.read(model=name) for name in params.load_param("recommenders")}
        require_same_refit(
            {name: refit_in(PER_QUERY.metadata(model=name)) for name in tables},
            "artifacts/evaluations",
            "set `refit` alike for all in params.yaml, then `dvc repro`",
        )
        LEADERBOARD.write(build_leaderboard(tables, settings))


if __name__ == "__main__":
    typer.run(main)
