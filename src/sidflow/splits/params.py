"""Params of `split`: which events are held out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params


class SplitParams(Params):
    """The section `split` of params.yaml.

    `leave_one_out` and `leave_last_n` hold out each user's last events; `global_time` holds out all that happens after
    two points in time.
    """

    method: Literal["leave_one_out", "leave_last_n", "global_time"] = "leave_one_out"
    n: int = Field(default=1, ge=1, le=100)
    min_history: int = Field(default=1, ge=1)
    valid_share: float = Field(default=0.1, gt=0, lt=0.5)
    test_share: float = Field(default=0.1, gt=0, lt=0.5)
    queries_per_user: int = Field(default=1, ge=1)
