"""Params that all counting models share."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class CountingParams(Params):
    """What every counting model is told."""

    refit: bool = False  # answer test queries from a fit on training and validation events


class ChosenParams(CountingParams):
    """Of a model that chooses its setting on validation."""

    choose_on: int = Field(default=10_000, ge=1)  # at most so many validation queries, evenly spread
