"""Split interactions into sequences, queries and targets. Run: dvc repro split."""

import typer

from sidflow.artifacts.catalog import INTERACTIONS, USERS, has_clock
from sidflow.artifacts.evaluation import SPLIT
from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.core import params
from sidflow.core.stage import print_progress, stage
from sidflow.sequences.split import SplitParams, split_interactions


def main() -> None:
    """Run the stage."""
    with stage("split"):
        no_repeats = params.load_param("ingest.repeats") == "first"
        settings = params.load_section("split", SplitParams)
        interactions, users = INTERACTIONS.read(), USERS.read().height
        clock = has_clock(interactions, INTERACTIONS.metadata())
        result = split_interactions(interactions, users, settings, no_repeats=no_repeats, has_timestamps=clock)
        SEQUENCES.write(result.sequences)
        QUERIES.write(result.queries)
        TARGETS.write(result.targets)
        SPLIT.write(result.report)
        print_progress("{queries_valid} validation and {queries_test} test queries".format(**result.report))


if __name__ == "__main__":
    typer.run(main)
