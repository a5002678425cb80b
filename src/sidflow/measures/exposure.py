"""What the lists of all users show together: coverage, concentration, novelty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Integer


def shown(items: Integer[np.ndarray, "q k"], catalogue: int) -> Float[np.ndarray, " n"]:
    """Return how often each of `catalogue` items stands in the lists; -1 is no item."""
    return np.bincount(items[items >= 0], minlength=catalogue).astype(np.float64)


def coverage(exposure: Float[np.ndarray, " n"]) -> float:
    """Return the share of items that are shown at all, 0 to 1."""
    return float((exposure > 0).mean()) if len(exposure) else 0.0


def gini(counts: Float[np.ndarray, " n"]) -> float:
    """Return the Gini index of counts, for example of exposure: 0 = all alike, towards 1 = one has everything."""
    n, total = len(counts), counts.sum()
    if n == 0 or total == 0:
        return 0.0
    ordered = np.sort(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def novelty(items: Integer[np.ndarray, "q k"], counts: Integer[np.ndarray, " n"]) -> float:
    """Return the mean -log2 of the shown items' share of training events, one event added to each (bits)."""
    surprise = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    listed = items[items >= 0]
    return float(surprise[listed].mean()) if len(listed) else 0.0
