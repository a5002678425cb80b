"""A hash of numbers: the same on every machine, with no pattern that a model could learn."""

from __future__ import annotations

import numpy as np


def mix_bits(values: np.ndarray) -> np.ndarray:
    """Scramble uint64 values so that each output bit depends on every input bit.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), the finaliser MurmurHash3
    with Stafford's variant 13.
    """
    values = values.astype(np.uint64, copy=True)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
