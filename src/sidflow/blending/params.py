"""The knobs of a blend."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sidflow.core.params import Params


class BlendParams(Params):
    """The scores of one recommender plus those of another, weighted; nothing is trained again."""

    base: str = Field(min_length=1, description="recommender whose scores are taken as they are")
    added: str = Field(min_length=1, description="recommender whose scores are weighted and added")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
        min_length=1,
        description="of the added scores; the best on validation is taken, of equal ones the first",
    )
    choose_on: int = Field(
        default=10_000, ge=1, description="validation queries that choose the weight, at most, evenly spread"
    )
