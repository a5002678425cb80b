"""Beyond-accuracy metrics of all lists together: catalogue coverage, concentration, novelty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Integer


def exposure_counts(items: Integer[np.ndarray, "q k"], catalogue: int) -> Float[np.ndarray, " n"]:
    """Return how often each of `catalogue` items is recommended; -1 is no item."""
    return np.bincount(items[items >= 0], minlength=catalogue).astype(np.float64)


def catalogue_coverage(exposure: Float[np.ndarray, " n"]) -> float:
    """Return the share of items that are recommended at all, 0 to 1."""
    return float((exposure > 0).mean()) if len(exposure) else 0.0


def gini(counts: Float[np.ndarray, " n"]) -> float:
    """Return the Gini index of counts, for example of exposure: 0 = all equal, towards 1 = one item has everything."""
    n, total = len(counts), counts.sum()
    if n == 0 or total == 0:
        return 0.0
    ordered = np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def novelty(items: Integer[np.ndarray, "q k"], counts: Integer[np.ndarray, " n"]) -> float:
    """Return the mean self-information of recommended items in bits: -log2 of their share of training events.

    Args:
        items: the recommended items; -1 is no item.
        counts: training events of every item; one event is added to each.
    """
    information = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    recommended = items[items >= 0]
    return float(information[recommended].mean()) if len(recommended) else 0.0
