"""The knobs of `report`."""

from __future__ import annotations

from pydantic import Field

from sidflow.contracts.params import Params


class ReportParams(Params):
    """How much of the catalogue the page shows."""

    users: int = Field(default=4, ge=0, le=50, description="users whose histories and recommendations are shown")
    history: int = Field(default=8, ge=1, le=50, description="last items of a history that are shown")
    recommendations: int = Field(default=10, ge=1, le=20, description="items of a list that are shown")
    items: int = Field(default=6, ge=0, le=50, description="items shown with their semantics and semantic IDs")
    thumbnail: int = Field(default=120, ge=16, le=512, description="pixels of the longer side")
    quality: int = Field(default=80, ge=10, le=95, description="JPEG quality")
