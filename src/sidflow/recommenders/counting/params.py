"""Params that all counting models share."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class CountingParams(Params):
    """What all counting models share."""

    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )


class ChosenParams(CountingParams):
    """Knobs of a counting model that chooses its setting on validation."""

    choose_on: int = Field(
        default=10_000, ge=1, description="validation queries that choose a setting, at most, evenly spread"
    )
