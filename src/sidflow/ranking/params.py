"""The knobs of `rank`."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class RankParams(Params):
    """What is recommended, and against whom the target is ranked."""

    exclude_history: bool = True
    top: int = Field(20, ge=20, le=1_000)
    negatives: int = Field(100, ge=1, le=10_000)
    seed: int = Field(42, ge=0)
