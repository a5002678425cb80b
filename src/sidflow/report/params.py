"""The knobs of `report`."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class ReportParams(Params):
    """How much of the catalogue the page shows."""

    users: int = Field(4, ge=0, le=50)
    history: int = Field(8, ge=1, le=50)
    recommendations: int = Field(10, ge=1, le=20)
    items: int = Field(6, ge=0, le=50)
    thumbnail: int = Field(120, ge=16, le=512)
    quality: int = Field(80, ge=10, le=95)
