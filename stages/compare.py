"""Compare all recommenders that params name: intervals, differences, verdicts. Run: dvc repro compare."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.evaluations import LEADERBOARD, PER_QUERY
from sidflow.contracts.running import stage
from sidflow.evaluation.comparison import compare
from sidflow.evaluation.params import CompareParams


def main() -> None:
    """Read evaluations/ of the recommenders in params, write reports/leaderboard.json."""
    with stage("compare"):
        settings = params.load("compare", CompareParams)
        tables = {name: PER_QUERY.read(model=name) for name in params.load_value("recommenders")}
        LEADERBOARD.write(compare(tables, settings))


if __name__ == "__main__":
    typer.run(main)
