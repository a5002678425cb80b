"""The knobs of a candidate ranker."""

from __future__ import annotations

from pydantic import Field

from sidflow.core.params import Params
from sidflow.training.loop import LoopParams


class RankerLoop(
    LoopParams,
    defaults={"epochs": 6, "patience": 0, "learning_rate": 0.01, "weight_decay": 0.01, "schedule": "cosine"},
):
    """The training loop of a small network on few features."""


class CandidateRankerParams(Params):
    """A small network that ranks the items with the most evidence; it learns from each user's last training event."""

    content: tuple[str, ...] = Field(
        default=("text",), description="embeddings whose cosines between items are evidence; [] = counts alone"
    )
    window: int = Field(default=20, ge=1, le=1000, description="steps; furthest apart that two items count as a pair")
    decay: float = Field(default=0.5, ge=0, le=4, description="exponent of 1 / distance in steps")
    last: int = Field(default=10, ge=1, le=1000, description="items of the history that are weighted by recency")
    recency: float = Field(default=1.0, ge=0, le=4, description="exponent of 1 / steps back")
    backward: float = Field(
        default=0.25, ge=0, le=1, description="weight of a pair in the other order; a second count has both alike"
    )
    damping: float = Field(default=0.25, ge=0, le=1, description="exponent of 1 / popularity of the history's item")
    epsilon: float = Field(default=0.4, gt=0, description="count that is little: a feature is log(1 + count / epsilon)")
    neighbours: int = Field(default=200, ge=1, description="items kept per item in counts, those with the most")
    similar: int = Field(default=100, ge=1, description="items kept per item in cosines of content, the largest")
    linked: int = Field(
        default=20, ge=1, description="of them, those that lend their co-occurrence to an item, and it to them"
    )
    candidates: int = Field(default=500, ge=1, description="items with the most evidence that are ranked per history")
    hidden: int = Field(default=32, ge=1, description="width of the network's hidden layer")
    batch_size: int = Field(default=64, ge=1, description="histories per step")
    loop: RankerLoop = Field(default=RankerLoop(), description="how long and how fast to train")
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )
