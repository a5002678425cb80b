"""The knobs of `rank`."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class RankParams(Params):
    """What is recommended, and against which items the target is ranked."""

    exclude_history: bool = Field(
        default=True, description="true: a user's own items are not recommended; a target among them is a miss"
    )
    top: int = Field(
        default=20, ge=20, le=1_000, description="items kept per query; 20 is the largest cutoff of the metrics"
    )
    negatives: int = Field(default=100, ge=1, le=10_000, description="items per query of the sampled protocol")
    seed: int = Field(default=42, ge=0, description="of the negatives")
