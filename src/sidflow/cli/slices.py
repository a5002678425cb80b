"""Slices of the test queries in the workspace, for paired comparisons on a slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sidflow.core import params
from sidflow.core.errors import InputError, closest_names
from sidflow.evaluation.params import EvaluateParams
from sidflow.evaluation.slices import load_slice_masks
from sidflow.sequences.histories import load_histories

if TYPE_CHECKING:
    from jaxtyping import Bool


def slices_of_tests(names: Sequence[str]) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return which test queries belong to each slice, as `evaluate` cuts them.

    Raises:
        InputError: there is no such slice.
    """
    masks = load_slice_masks(params.load_section("evaluate", EvaluateParams))
    for name in names:
        if name not in masks:
            raise InputError(
                "--slice",
                expected=closest_names(name, masks),
                found=f"`{name}`",
                remedy="artifacts/evaluations/sasrec/slices.csv and the like list them",
            )
    test = ~load_histories().query_valid
    return {name: masks[name][test] for name in names}
