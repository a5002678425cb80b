"""Measure one recommender: metrics, slices, diagnostics. Run: dvc repro evaluate@MODEL."""

import typer

from sidflow.artifacts.catalog import IMAGES, ITEMS, TRUTH
from sidflow.artifacts.evaluation import METRICS, PER_QUERY, SLICES, SPECTRUM, TARGET_RANKS, TOP
from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import FACTORS, SUMMARY, refit_in, refit_metadata
from sidflow.artifacts.split import TARGETS
from sidflow.core import params
from sidflow.core.stage import print_progress, stage
from sidflow.evaluation.evaluate import EvaluationInputs, evaluate, scoring_item_matrix
from sidflow.evaluation.params import EvaluateParams
from sidflow.evaluation.slices import content_presence
from sidflow.sequences.histories import load_histories


def main(model: str) -> None:
    """Read rankings/MODEL and recommenders/MODEL, write evaluations/MODEL and reports/MODEL.json."""
    with stage(f"evaluate@{model}"):
        settings = params.load_section("evaluate", EvaluateParams)
        refit = refit_in(TARGET_RANKS.metadata(model=model))
        factors = FACTORS.read(model=model)
        table = ITEM_TABLE.read(model=model) if ITEM_TABLE.at(model=model).is_file() else None
        learned = table.arrays if table and refit_in(table.metadata) is refit else {}
        evaluation = evaluate(
            EvaluationInputs(
                histories=load_histories(),
                tied=TARGETS.read()["tied"].to_numpy(),
                ranks=TARGET_RANKS.read(model=model),
                top=TOP.read(model=model),
                truth=TRUTH.read(),
                content=content_presence(ITEMS.read(), IMAGES.read(columns=["item_id"])["item_id"].to_numpy()),
                item_matrix=scoring_item_matrix(factors),
                item_table=learned.get("values"),
                present=learned.get("present"),
                summary=SUMMARY.read(model=model) if SUMMARY.at(model=model).is_file() else {},
            ),
            settings,
        )
        PER_QUERY.write(evaluation.per_query, refit_metadata(refit), model=model)
        METRICS.write(evaluation.metrics, model=model)
        SLICES.write(evaluation.slices, list(evaluation.slices[0]), model=model)
        SPECTRUM.write(evaluation.spectrum, ["matrix", "dimension", "singular_value"], model=model)
        summary = "nDCG@10 {valid_ndcg_at_10:.4f} on validation, {ndcg_at_10:.4f} on test"
        print_progress(summary.format(**evaluation.metrics))


if __name__ == "__main__":
    typer.run(main)
