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
    """Thresholds over all modalities; null = not asked for."""

    least_code_usage: float | None = Field(0.99, ge=0, le=1)  # of any level
    most_collision_rate_distinct: float | None = Field(0.01, ge=0, le=1)  # among items with distinct inputs
    least_neighbour_recall: float | None = Field(None, ge=0, le=1)
    least_recall_ratio: float | None = Field(None, ge=0)  # neighbour recall in that of the reference
    least_tau_triples: float | None = Field(0.0, ge=-1, le=1)


class AssignParams(Params):
    """Section `assign`."""

    known_from: str | None = None  # artifacts folder of an earlier run, whose IDs stay as they are; with frozen_from
    resolution: Literal["suffix", "sinkhorn_reassign"] = "suffix"  # of collisions; a suffix ends either
    sinkhorn_epsilon: float = Field(0.05, gt=0)  # of distances scaled to [-1, 1]
    sinkhorn_iterations: int = Field(50, ge=1)
    neighbours: int = Field(10, ge=1)  # of the audit
    triples: int = Field(20_000, ge=1)  # of the audit's tau
    reference: Literal["rq-kmeans", "none"] = "rq-kmeans"  # audited beside the IDs: residual k-means on the rows
    seed: int = 0  # draws the triples and the reference's centres
    gate: GateParams = GateParams.model_validate({})

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
