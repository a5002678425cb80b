"""Interactions become sequences, queries and targets. Run: dvc repro split."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.interactions import INTERACTIONS
from sidflow.contracts.artifacts.queries import QUERIES
from sidflow.contracts.artifacts.reports import SPLIT
from sidflow.contracts.artifacts.sequences import SEQUENCES
from sidflow.contracts.artifacts.targets import TARGETS
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.running import say, stage
from sidflow.splits.params import SplitParams
from sidflow.splits.split import split


def main() -> None:
    """Run the stage."""
    with stage("split"):
        no_repeats = params.load_value("ingest.repeats") == "first"
        made = split(INTERACTIONS.read(), USERS.read().height, params.load("split", SplitParams), no_repeats=no_repeats)
        SEQUENCES.write(made.sequences)
        QUERIES.write(made.queries)
        TARGETS.write(made.targets)
        SPLIT.write(made.report)
        say("{queries_valid} validation and {queries_test} test queries".format(**made.report))


if __name__ == "__main__":
    typer.run(main)
