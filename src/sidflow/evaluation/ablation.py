"""MME-SID's ablation table: one part removed at a time, each row compared with the full model, user by user.

Source: the ablation study of MME-SID (arXiv 2509.02017); the last two rows are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.evaluation.comparison import paired_bootstrap, per_query_values
from sidflow.evaluation.params import CompareParams

if TYPE_CHECKING:
    from jaxtyping import Float

MODEL = "mme_sid"
FULL_MODEL = "whole"
WITHOUT = f"finetune.{MODEL}.without"
ParamChanges = Mapping[str, bool | str | float | list[str]]  # values by dotted names of params.yaml
ABLATION_ROWS: dict[str, ParamChanges] = {
    FULL_MODEL: {},
    "without collaborative": {WITHOUT: ["collaborative"]},
    "without text": {WITHOUT: ["text"]},
    "without image": {WITHOUT: ["image"]},
    "without codes": {f"finetune.{MODEL}.codes": False},
    "without raw rows": {f"finetune.{MODEL}.raw": False},
    "codebooks at random": {f"finetune.{MODEL}.codebook_init": "random"},
    "without alignment": {"quantize.alignment": "none"},
    "without MMD": {"quantize.reconstruction": "mse"},
    "without frequency-aware fusion": {f"finetune.{MODEL}.frequency_aware": False},
    "without LoRA": {f"finetune.{MODEL}.lora.enabled": False},
    "item tokens four times as large": {f"finetune.{MODEL}.token_scale": 4.0, f"finetune.{MODEL}.lora.alpha": 32},
    "collaborative rows alone": {WITHOUT: ["text", "image"], f"finetune.{MODEL}.codes": False},
}
DIAGNOSTICS = ("valid_ndcg_at_10", "effective_rank", "alive_share", "tau_of_codes")


class AblationRun(NamedTuple):
    """The results of one row under one seed."""

    user_values: Float[np.ndarray, " users"]  # in the metric of the table, users in the same order in all runs
    diagnostics: Mapping[str, float | None]


def applicable_rows(modalities: Sequence[str]) -> dict[str, ParamChanges]:
    """Return the rows of the table that make sense where items have `modalities`.

    A row that removes modalities needs one that is there, and must leave one.
    """
    rows: dict[str, ParamChanges] = {}
    for name, changes in ABLATION_ROWS.items():
        without = changes.get(WITHOUT)
        removed = [modality for modality in modalities if isinstance(without, list) and modality in without]
        if without is None:
            rows[name] = changes
        elif removed and len(removed) < len(modalities):
            rows[name] = {**changes, WITHOUT: removed}
    return rows


def ablation_metric(tests: pl.DataFrame) -> str:
    """Return the metric of the table: expected nDCG@10 where the catalogue has the truth, else nDCG@10.

    Args:
        tests: test queries of PER_QUERY.
    """
    return "ndcg_at_10" if tests["expected_ndcg_at_10"].null_count() else "expected_ndcg_at_10"


def mean_per_user(tests: pl.DataFrame) -> Float[np.ndarray, " users"]:
    """Return the mean over each user's test queries, by user_id, in the metric of the table.

    Args:
        tests: test queries of PER_QUERY.
    """
    values = pl.Series("value", per_query_values(tests)[ablation_metric(tests)])
    return tests.select("user_id").with_columns(values).group_by("user_id").mean().sort("user_id")["value"].to_numpy()


def model_diagnostics(metrics: Mapping[str, float], summary: Mapping) -> dict[str, float | None]:
    """Return DIAGNOSTICS from the model's METRICS and the summary of its training."""
    taus = [modality["tau_finetuned"] for modality in summary["forgetting"].values()]
    return {
        "valid_ndcg_at_10": summary["valid_ndcg_at_10"],
        "effective_rank": metrics.get("item_table_effective_rank"),
        "alive_share": metrics.get("item_table_alive_share"),
        "tau_of_codes": float(np.mean(taus)) if taus else None,
    }


def ablation_table(runs: Mapping[str, Sequence[AblationRun]], settings: CompareParams) -> list[dict[str, object]]:
    """Return one entry per row: mean, paired difference to the full model with its interval, and diagnostics.

    Seeds are averaged per user first; users are resampled.

    Args:
        runs: the seeds of every row.
        settings: level, power, draws and seed of the bootstrap.
    """
    means = {row: np.stack([run.user_values for run in seeds]).mean(0, np.float64) for row, seeds in runs.items()}
    users = np.arange(len(next(iter(means.values()), [])))
    bootstrap = paired_bootstrap(means, users, settings) if FULL_MODEL in means else None
    table: list[dict[str, object]] = []
    for row, seeds in runs.items():
        entry: dict[str, object] = {"row": row, "seeds": len(seeds), "mean": float(means[row].mean())}
        if bootstrap and row != FULL_MODEL:
            difference = bootstrap.difference(row, FULL_MODEL)
            entry |= {name: getattr(difference, name) for name in ("difference", "low", "high", "detectable")}
        for key in DIAGNOSTICS:
            values = [value for run in seeds if (value := run.diagnostics.get(key)) is not None]
            entry[key] = float(np.mean(values)) if values else None
        table.append(entry)
    return table
