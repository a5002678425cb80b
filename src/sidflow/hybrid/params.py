"""The knobs of a hybrid: what its score prior counts, how it is weighted at the start, and how it is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params


class ScorePriorParams(Params):
    """What every hybrid has, whatever its base model."""

    folds: int = Field(
        default=8, ge=2, description="groups of users; a training position sees counts of all groups but its own"
    )
    window: int = Field(default=10, ge=1, le=1000, description="steps; furthest apart that two items count as a pair")
    decay: float = Field(default=0.5, ge=0, le=4, description="exponent of 1 / distance in steps")
    last: int = Field(default=10, ge=1, le=1000, description="items of the history that are looked at, the most recent")
    recency: float = Field(
        default=1.0, ge=0, le=4, description="exponent of 1 / steps back; of cosines it is the start"
    )
    backward: float = Field(
        default=0.25, ge=0, le=1, description="weight of a pair in the other order; 1 = order does not matter"
    )
    damping: float = Field(default=0.25, ge=0, le=1, description="exponent of 1 / popularity of the history's item")
    neighbours: int = Field(default=200, ge=1, description="items kept per item, those with the most evidence")
    cooccurrence_weight: float = Field(
        default=2.0, gt=0, description="of log(1 + evidence / epsilon), at the start as are the next two"
    )
    epsilon: float = Field(default=0.4, gt=0, description="evidence that counts as little; 1 = one pair of neighbours")
    content_weight: float = Field(default=2.0, gt=0, description="of the last item's cosine")
    own_weight: float = Field(
        default=0.3, gt=0, description="of the base model's score in training, where a history sees the prior"
    )
    own_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.3, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.2),
        min_length=1,
        description="of the base model's score when ranking; chosen on validation after each epoch",
    )
    discount_popularity: bool = Field(
        default=True, description="log-popularity is a learned term in training, and none of the score"
    )
    rate_factor: float = Field(default=5.0, gt=0, description="learning rate of the prior's weights, in learning rates")
    dropout: float = Field(default=0.8, ge=0, le=1, description="share of training histories that see no prior")
    mask_history: bool = Field(
        default=True, description="in training what a history holds is no candidate, as when ranking"
    )


class HybridParams(ScorePriorParams):
    """A score prior beside a base recommender."""

    cooccurrence: bool = Field(default=True, description="whether co-occurrence of items is part of the prior")
    content: tuple[str, ...] = Field(
        default=("text",), description="embeddings whose cosines are part of the prior; [] = none"
    )

    @model_validator(mode="after")
    def _has_a_term(self) -> HybridParams:
        if not (self.cooccurrence or self.content):
            raise InvalidValue("`cooccurrence: true`, or `content` that names an embedding", "neither")
        return self
