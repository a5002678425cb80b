"""Add the scores of two recommenders, with a weight chosen on validation. Run: dvc repro blend@MODEL."""

import typer

from sidflow.artifacts.catalog import core_count
from sidflow.blending.fit import fit_blend
from sidflow.blending.params import BlendParams
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.sequences.histories import load_histories_for_ranking


def main(model: str) -> None:
    """Read the split and both recommenders' factors, write recommenders/MODEL."""
    with stage(f"blend@{model}"):
        params.require_listed(model, "blend")
        settings = params.load_section(f"blend.{model}", BlendParams)
        fit_blend(model, settings, load_histories_for_ranking(), core_count())


if __name__ == "__main__":
    typer.run(main)
