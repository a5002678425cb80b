"""Slices of the test queries in the workspace, for paired comparisons on a slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sidflow.artifacts.catalog import IMAGES, ITEMS, core_count
from sidflow.core import params
from sidflow.core.errors import InputError, closest_names
from sidflow.evaluation.params import EvaluateParams
from sidflow.evaluation.slices import content_presence, slice_masks
from sidflow.sequences.histories import load_histories

if TYPE_CHECKING:
    from jaxtyping import Bool


def slices_of_tests(names: Sequence[str]) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return which test queries belong to each slice, as `evaluate` cuts them.

    Raises:
        InputError: there is no such slice.
    """
    histories = load_histories()
    content = content_presence(ITEMS.read(), IMAGES.read(columns=["item_id"])["item_id"].to_numpy())
    settings = params.load_section("evaluate", EvaluateParams)
    masks = slice_masks(histories, histories.training_counts(core_count()), content, settings)
    for name in names:
        if name not in masks:
            raise InputError(
                "--slice",
                expected=closest_names(name, masks),
                found=f"`{name}`",
                remedy="artifacts/evaluations/sasrec/slices.csv and the like list them",
            )
    return {name: masks[name][~histories.query_valid] for name in names}
