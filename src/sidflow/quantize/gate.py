"""The gate: IDs that miss a threshold end the run before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params
from sidflow.quantize.reference import recall_ratios


class GateParams(Params):
    """Thresholds over all modalities and levels; null = not checked."""

    least_code_usage: float | None = Field(
        default=0.99, ge=0, le=1, description="share of a level's codes that some item has"
    )
    most_collision_rate_distinct: float | None = Field(
        default=0.01, ge=0, le=1, description="share of items with distinct inputs that share their codes"
    )
    least_neighbour_recall: float | None = Field(
        default=None, ge=0, le=1, description="share of an item's nearest neighbours that stay so after quantizing"
    )
    least_recall_ratio: float | None = Field(
        default=None, ge=0, description="the same share, divided by that of the reference"
    )
    least_tau_triples: float | None = Field(
        default=0.0, ge=-1, le=1, description="rank agreement of distances before and after, -1 to 1"
    )


class AssignParams(Params):
    """How collisions are resolved, and what the audit measures and demands."""

    known_from: str | None = Field(
        default=None, description="artifacts folder of an earlier run whose IDs stay; needs quantize.frozen_from"
    )
    resolution: Literal["suffix", "sinkhorn_reassign"] = Field(
        default="suffix", description="of collisions: suffix | sinkhorn_reassign (other last codes first, then suffix)"
    )
    sinkhorn_epsilon: float = Field(default=0.05, gt=0, description="of distances scaled to [-1, 1]")
    sinkhorn_iterations: int = Field(default=50, ge=1, description="scalings of rows and columns")
    neighbours: int = Field(default=10, ge=1, description="neighbours per item in the audit")
    triples: int = Field(default=20_000, ge=1, description="triples sampled for the audit's rank agreement")
    reference: Literal["rq-kmeans", "none"] = Field(
        default="rq-kmeans", description="audited beside the IDs: rq-kmeans (residual k-means on the rows) | none"
    )
    seed: int = Field(default=0, description="of the triples and the reference's centres")
    gate: GateParams = Field(
        default=GateParams(), description="thresholds over all modalities and levels that end a run; null = not checked"
    )

    @model_validator(mode="after")
    def _fits(self) -> AssignParams:
        if self.reference == "none" and self.gate.least_recall_ratio is not None:
            raise InvalidValue(
                "`gate.least_recall_ratio: null` with `reference: none`, which has nothing to compare with",
                f"{self.gate.least_recall_ratio:g}",
            )
        return self


def check(figures: Mapping[str, float], gate: GateParams) -> None:
    """Hold the audit to the thresholds.

    Raises:
        InputError: one is missed; the figure that misses it by most is the example.
    """
    rules = (
        ("code_usage_", gate.least_code_usage, 1),
        ("collision_rate_distinct_", gate.most_collision_rate_distinct, -1),
        ("neighbour_recall_at_", gate.least_neighbour_recall, 1),
        ("ratio_to_", gate.least_recall_ratio, 1),
        ("tau_triples_", gate.least_tau_triples, 1),
    )
    ratios = {f"ratio_to_{name}": ratio for name, ratio in recall_ratios(figures).items()}
    missed = [
        (sign * (value - bound), name, value, bound, "at least" if sign > 0 else "at most")
        for start, bound, sign in rules
        if bound is not None
        for name, value in {**figures, **ratios}.items()
        if name.startswith(start) and sign * (value - bound) < 0
    ]
    if missed:
        _, name, value, bound, words = min(missed)
        raise InputError(
            "semantic IDs",
            expected=f"{name} {words} {bound:g}",
            found=f"{value:.4g}",
            count=len(missed),
            example=", ".join(f"{one[1]} = {one[2]:.4g}" for one in sorted(missed)[:5]),
            remedy="change `quantize` (fewer codes, other epochs, refit: all), or the threshold in `assign.gate`",
        )
