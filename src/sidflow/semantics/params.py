"""Params of `describe`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params


class RulesParams(Params):
    """What the rules may write: no model, no weights."""

    backend: Literal["rules"] = Field(
        default="rules", description="rules: catalogue words and measured picture properties; no model is asked"
    )
    max_sentences: int = Field(
        default=3,
        ge=0,
        le=50,
        description="sentences of the description in the text view; the joint view takes the first",
    )
    max_characters: int = Field(default=600, ge=40, le=20_000, description="characters of a view, cut at a word's end")
    colours: int = Field(default=3, ge=1, le=8, description="colours named per picture, the largest first")
    min_share: float = Field(
        default=0.05, gt=0, lt=1, description="share of the pixels from which on a colour is named"
    )
    side: int = Field(default=64, ge=32, le=256, description="pixels; pictures are measured at side x side")


class DescribeParams(Params):
    """Who writes the text, image and joint views of items."""

    writer: RulesParams = Field(default=RulesParams(), description="writer of the views")
