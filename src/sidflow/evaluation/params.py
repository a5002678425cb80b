"""The knobs of `evaluate` and `compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params


class EvaluateParams(Params):
    """How slices are cut."""

    head_share: float = Field(0.3333, gt=0, lt=1)
    tail_share: float = Field(0.3333, gt=0, lt=1)
    short_history: int = Field(5, ge=0)
    long_history: int = Field(20, ge=1)


class CompareParams(Params):
    """What is compared with what, and how sure one wants to be.

    Source of `claimed_gain`: MME-SID (arXiv 2509.02017) reports nDCG@5 of +10.47% (Beauty), +4.42% (Toys) and +8.12%
    (Sports) over its best baseline, read in a summary of the paper. The claim under test is about the least of them,
    and it is held against whatever `primary` is.
    """

    primary: Literal["ndcg_at_5", "ndcg_at_10", "ndcg_at_20", "recall_at_5", "recall_at_10", "recall_at_20"] = (
        "ndcg_at_10"
    )
    methods: tuple[str, ...] = ("mme_sid", "dmesr")
    references: tuple[str, ...] = ("oracle",)
    claimed_gain: float = Field(0.04, ge=0)  # relative to the best baseline
    level: float = Field(0.95, gt=0.5, lt=1)
    power: float = Field(0.8, gt=0.5, lt=1)
    draws: int = Field(2_000, ge=200, le=100_000)
    seed: int = Field(42, ge=0)
