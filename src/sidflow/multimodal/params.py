"""The knobs that recommenders with content beside a sequential base model share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.hybrid.params import HybridParams
from sidflow.sequential.params import SequenceParams, from_content

KIND = "which multimodal recommender this is"


class MultimodalParams(Params):
    """What all recommenders that give content to a sequential base model share."""

    base: Literal["sasrec", "gru4rec", "bert4rec"] = Field(default="sasrec", description="sasrec | gru4rec | bert4rec")
    model: dict[str, Any] = Field(default_factory=dict, description="the base model's own knobs")
    hybrid: HybridParams | None = Field(
        default=None,
        exclude_if=lambda hybrid: hybrid is None,
        description="a score prior of co-occurrence and content beside the base model; null = none",
    )
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )

    def unused(self) -> frozenset[str]:
        """Return what the base model is not asked: `base` and `refit` say it."""
        return frozenset({"model.architecture", "model.refit"})


class HybridRecommenderParams(MultimodalParams):
    """A base model with item vectors of its own, and a score prior beside it."""

    kind: Literal["hybrid"] = Field(default="hybrid", exclude=True, description=f"{KIND}: dmesr | features | hybrid")
    hybrid: HybridParams | None = Field(
        default=HybridParams(), description="a score prior of co-occurrence and content beside the base model"
    )


def base_of(model: dict[str, Any], base: str, refit: bool, where: str) -> SequenceParams:
    """Return the params of the base model that the section `where` wraps, whose own knobs are `model`.

    Raises:
        InputError: as `from_content`, or `model` says what the section itself says.
    """
    for name, instead in (("architecture", "base"), ("refit", "refit")):
        if name in model:
            raise InputError(
                f"{where}.model.{name}",
                expected=f"`{name}` left out: {where.partition(':')[2]}.{instead} says it",
                found=repr(model[name]),
                remedy=f"set {where.partition(':')[2]}.{instead} instead",
            )
    return from_content(model | {"architecture": base, "refit": refit}, base, f"{where}.model")
