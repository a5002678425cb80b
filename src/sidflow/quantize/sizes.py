"""How many codes a level gets, and whether a modality can be quantized at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from sidflow.contracts.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_CODES = 256  # per level, by the rule
ITEMS_PER_CODE = 4  # at least, by the rule


def distinct_rows(values: Float[np.ndarray, "n d"]) -> int:
    """Return how many different rows there are."""
    rows = np.ascontiguousarray(values + 0.0)  # -0.0 and 0.0 are one value
    return len(np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))))


def codes_per_level(
    values: Float[np.ndarray, "n d"], wanted: int | list[int] | Literal["auto"], levels: int, modality: str
) -> list[int]:
    """Return the number of codes of each level for the present rows of a modality.

    `auto` is the largest power of two that leaves every code 4 distinct items, from 2 to 256: 256 codes take 1,024
    distinct items.

    Raises:
        InputError: fewer distinct items than codes.
    """
    found = distinct_rows(values)
    if wanted == "auto":
        counts = [max(2, min(MOST_CODES, 2 ** int(np.log2(max(1, found // ITEMS_PER_CODE)))))] * levels
    else:
        counts = wanted if isinstance(wanted, list) else [wanted] * levels
    if found < max(counts):
        raise InputError(
            f"artifacts/modalities/{modality}.safetensors",
            expected=f"at least {max(counts)} distinct items for {max(counts)} codes",
            found=f"{found} distinct among {len(values)} items",
            remedy=f"set quantize.codes to {found} or less, or to auto"
            if found >= 2
            else f"take `{modality}` out of `modality` in params.yaml: it tells no two items apart",
        )
    return counts
