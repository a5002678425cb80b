"""What a base model scores in a training step: the seam where a hybrid adds its score prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from sidflow.losses.negatives import Candidates

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class TrainingScores(NamedTuple):
    """The factors of a step's scores: position p scores item i by `states[p] . item_matrix[i]`."""

    states: Float[Tensor, "p d"]
    item_matrix: Float[Tensor, "n d"]  # of all core items, or of `candidates.items` alone
    targets: Int[Tensor, " p"]  # item ids
    candidates: Candidates | None  # of a sampled loss; None: all core items are scored
    last_event: Int[Tensor, " p"]  # number of the last event that the position's history holds
    target_event: Int[Tensor, " p"]  # number of the event that the position predicts


RankLoss = Callable[[TrainingScores], Tensor]  # returns the mean loss over the positions
