"""Params of `describe`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params


class RulesParams(Params):
    """What the rules may say: no model, no weights."""

    backend: Literal["rules"] = "rules"
    max_sentences: int = Field(default=3, ge=0, le=50)  # of the description, in the text and joint views
    max_characters: int = Field(default=600, ge=40, le=20_000)  # of a view; cut at a word's end
    colours: int = Field(default=3, ge=1, le=8)  # named colours of a picture, largest first
    min_share: float = Field(default=0.05, gt=0, lt=1)  # share of the pixels from which on a colour is named
    side: int = Field(default=64, ge=32, le=256)  # pixels; pictures are measured at side x side


class DescribeParams(Params):
    """The section `describe`."""

    writer: RulesParams = RulesParams()
