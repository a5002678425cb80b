"""Params of `split`: which events are held out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params


class SplitParams(Params):
    """Which events are held out for validation and test.

    `leave_one_out` and `leave_last_n` hold out each user's last events; `global_time` holds out all that happens after
    two points in time.
    """

    method: Literal["leave_one_out", "leave_last_n", "global_time"] = Field(
        default="leave_one_out",
        description="leave_one_out | leave_last_n (of each user) | global_time (two cuts for all)",
    )
    n: int = Field(default=1, ge=1, le=100, description="events per user and part, of leave_last_n alone")
    min_history: int = Field(
        default=1, ge=1, description="events that must precede a target; users with fewer are trained on, not evaluated"
    )
    valid_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of events, of global_time alone")
    test_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of events, of global_time alone")
    queries_per_user: int = Field(
        default=1, ge=1, description="first events after each cut that are predicted, of global_time alone"
    )
