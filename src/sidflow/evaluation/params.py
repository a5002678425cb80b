"""The knobs of `evaluate` and `compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params


class EvaluateParams(Params):
    """How slices of items and histories are cut."""

    head_share: float = Field(
        default=0.3333,
        gt=0,
        lt=1,
        description="share of training events; the most popular items that hold it are the head",
    )
    tail_share: float = Field(
        default=0.3333,
        gt=0,
        lt=1,
        description="share of training events; the least popular items that hold it are the tail",
    )
    short_history: int = Field(default=5, ge=0, description="events; up to that a history is short")
    long_history: int = Field(default=20, ge=1, description="events; above that a history is long")

    @model_validator(mode="after")
    def _slices_are_apart(self) -> EvaluateParams:
        if (together := self.head_share + self.tail_share) > 1:
            raise InvalidValue("`head_share` and `tail_share` of at most 1 together", f"{together:g}")
        if self.short_history > self.long_history:
            found = f"{self.short_history} and {self.long_history}"
            raise InvalidValue("`short_history` of at most `long_history`", found)
        return self


class CompareParams(Params):
    """What is compared with what, and how sure one wants to be.

    Source of `claimed_gain`: MME-SID (arXiv 2509.02017) reports nDCG@5 of +10.47% (Beauty), +4.42% (Toys) and +8.12%
    (Sports) over its best baseline, read in a summary of the paper. The claim under test is about the least of them,
    and it is held against whatever `primary` is.
    """

    primary: Literal["ndcg_at_5", "ndcg_at_10", "ndcg_at_20", "recall_at_5", "recall_at_10", "recall_at_20"] = Field(
        default="ndcg_at_10",
        description="metric that chooses the best baseline, on validation: ndcg_at_K | recall_at_K",
    )
    methods: tuple[str, ...] = Field(
        default=("mme_sid", "dmesr"), description="name prefixes of what is under test; all others are baselines"
    )
    references: tuple[str, ...] = Field(default=("oracle",), description="know the answer: shown, never compared with")
    claimed_gain: float = Field(
        default=0.04,
        ge=0,
        description="relative gain over the best baseline that is tested; the papers claim 0.04 to 0.10",
    )
    level: float = Field(
        default=0.95, gt=0.5, lt=1, description="of the intervals, and of the tests after Holm's correction"
    )
    power: float = Field(default=0.8, gt=0.5, lt=1, description="of the minimum detectable effect")
    draws: int = Field(default=2_000, ge=200, le=100_000, description="bootstrap resamples of users")
    seed: int = Field(default=42, ge=0, description="of the resampling")
