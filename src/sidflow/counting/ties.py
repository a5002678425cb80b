"""Sums that are exact in float32, and popularity as a tie break that provably reorders nothing.

Counts and weights are multiples of a power of two, so that float32 adds them without rounding, in any order and on
any machine, up to 2**24 of the smallest step: equal evidence gives equal scores. The popularity of an item then comes
on top, scaled by a power of two to less than one step: it is exact itself, and since rounding a sum is monotone it can
decide between equal scores only. Where a score needs more than 24 bits the last bits of popularity are lost, and such
items stay tied.
"""

from __future__ import annotations

import numpy as np

WEIGHT_BITS = 7  # of a weight's fraction: 1/3 becomes 43/128
SCORE_STEP = 2.0 ** (-2 * WEIGHT_BITS)  # the smallest difference between two sums of products of two such weights


def round_to_dyadic(weights: np.ndarray, bits: int = WEIGHT_BITS) -> np.ndarray:
    """Round to multiples of 2**-bits, float32; what is positive stays positive."""
    scale = 2.0**bits
    return (np.where(weights > 0, np.maximum(np.round(weights * scale), 1), 0) / scale).astype(np.float32)


def decaying_weights(length: int, decay: float) -> np.ndarray:
    """Return 1, 2**-decay, 3**-decay, ... as exact weights, float32 [length]."""
    return round_to_dyadic(np.arange(1, length + 1, dtype=np.float64) ** -decay)


def tie_breaks(counts: np.ndarray, step: float) -> np.ndarray:
    """Return `counts`, non-negative integers, scaled by a power of two to less than `step`, float32 [n]."""
    largest = int(counts.max(initial=0))
    return (counts * (step * 2.0 ** -largest.bit_length())).astype(np.float32)
