"""Compare all recommenders that params name: intervals, differences, verdicts. Run: dvc repro compare."""

import typer

from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.evaluations import LEADERBOARD, PER_QUERY
from sidflow.contracts.running import stage
from sidflow.evaluation.comparison import build_leaderboard
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.refits import require_same_refit


def main() -> None:
    """Read evaluations/ of the recommenders in params, write reports/leaderboard.json."""
    with stage("compare"):
        settings = params.load_section("compare", CompareParams)
        tables = {name: PER_QUERY.read(model=name) for name in params.load_param("recommenders")}
        require_same_refit(
            {name: refits.of(PER_QUERY.metadata(model=name)) for name in tables},
            "artifacts/evaluations",
            "set `refit` alike for all in params.yaml, then `dvc repro`",
        )
        LEADERBOARD.write(build_leaderboard(tables, settings))


if __name__ == "__main__":
    typer.run(main)
