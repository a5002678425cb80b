"""What each part of MME-SID is worth: one thing off at a time, each row against the whole, user by user.

Source: the ablation study of MME-SID (arXiv 2509.02017); the last two rows are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.evaluation.comparison import columns
from sidflow.evaluation.params import CompareParams
from sidflow.measures import intervals

if TYPE_CHECKING:
    from jaxtyping import Float

MODEL = "mme_sid"
WHOLE = "whole"
WITHOUT = f"finetune.{MODEL}.without"
Changes = Mapping[str, bool | str | float | list[str]]  # of params.yaml, dots between sections
ROWS: dict[str, Changes] = {
    WHOLE: {},
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


class Measured(NamedTuple):
    """One row under one seed."""

    gains: Float[np.ndarray, " users"]  # in the metric of the table, users in the same order everywhere
    diagnostics: Mapping[str, float | None]


def rows(modalities: Sequence[str]) -> dict[str, Changes]:
    """Return the rows that mean something where items have `modalities`: something goes, and something stays."""
    found: dict[str, Changes] = {}
    for name, changes in ROWS.items():
        wanted = changes.get(WITHOUT)
        off = [one for one in modalities if isinstance(wanted, list) and one in wanted]
        if wanted is None:
            found[name] = changes
        elif off and len(off) < len(modalities):
            found[name] = {**changes, WITHOUT: off}
    return found


def metric_of(tests: pl.DataFrame) -> str:
    """Return the expected nDCG@10 where the catalogue knows the truth, else nDCG@10."""
    return "ndcg_at_10" if tests["expected_ndcg_at_10"].null_count() else "expected_ndcg_at_10"


def gains(tests: pl.DataFrame) -> Float[np.ndarray, " users"]:
    """Return the mean over each user's test queries, by user_id, in the metric of the table.

    Args:
        tests: test queries of PER_QUERY.
    """
    values = pl.Series("gain", columns(tests)[metric_of(tests)])
    return tests.select("user_id").with_columns(values).group_by("user_id").mean().sort("user_id")["gain"].to_numpy()


def diagnostics(metrics: Mapping[str, float], summary: Mapping) -> dict[str, float | None]:
    """Return DIAGNOSTICS from the model's METRICS and the summary of its training."""
    taus = [one["tau_finetuned"] for one in summary["forgetting"].values()]
    return {
        "valid_ndcg_at_10": summary["valid_ndcg_at_10"],
        "effective_rank": metrics.get("item_table_effective_rank"),
        "alive_share": metrics.get("item_table_alive_share"),
        "tau_of_codes": float(np.mean(taus)) if taus else None,
    }


def table(runs: Mapping[str, Sequence[Measured]], settings: CompareParams) -> list[dict[str, object]]:
    """Return a row each, in the order of `runs`: mean, difference from the whole with its interval
    and what would have been detected, diagnostics.

    Seeds are averaged per user first; users are drawn with replacement.
    """
    means = {name: np.mean([one.gains for one in seeds], axis=0, dtype=np.float64) for name, seeds in runs.items()}
    found: list[dict[str, object]] = []
    for name, seeds in runs.items():
        row: dict[str, object] = {"row": name, "seeds": len(seeds), "mean": float(means[name].mean())}
        if name != WHOLE and WHOLE in means:
            both = np.stack([means[name], means[WHOLE]], axis=1)
            drawn = intervals.resample(both, np.arange(len(both)), settings.draws, settings.seed)
            one = intervals.difference(
                float(drawn.mean[0] - drawn.mean[1]),
                drawn.drawn[:, 0] - drawn.drawn[:, 1],
                settings.level,
                settings.power,
            )
            row |= {"difference": one.difference, "low": one.low, "high": one.high, "detectable": one.detectable}
        for key in DIAGNOSTICS:
            values = [value for one in seeds if (value := one.diagnostics.get(key)) is not None]
            row[key] = float(np.mean(values)) if values else None
        found.append(row)
    return found
