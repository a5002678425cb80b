"""Split interactions into sequences, queries and targets. Run: dvc repro split."""

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.interactions import INTERACTIONS
from sidflow.contracts.artifacts.queries import QUERIES
from sidflow.contracts.artifacts.reports import SPLIT
from sidflow.contracts.artifacts.sequences import SEQUENCES
from sidflow.contracts.artifacts.targets import TARGETS
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.running import print_progress, stage
from sidflow.splits.params import SplitParams
from sidflow.splits.split import split_interactions


def main() -> None:
    """Run the stage."""
    with stage("split"):
        no_repeats = params.load_param("ingest.repeats") == "first"
        settings = params.load_section("split", SplitParams)
        result = split_interactions(INTERACTIONS.read(), USERS.read().height, settings, no_repeats=no_repeats)
        SEQUENCES.write(result.sequences)
        QUERIES.write(result.queries)
        TARGETS.write(result.targets)
        SPLIT.write(result.report)
        print_progress("{queries_valid} validation and {queries_test} test queries".format(**result.report))


if __name__ == "__main__":
    typer.run(main)
