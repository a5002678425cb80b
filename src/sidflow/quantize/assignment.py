"""From a trained quantizer to semantic IDs: codes, collisions, and what tells colliding items apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from sidflow.contracts.errors import InputError
from sidflow.quantize.codec import Codec
from sidflow.quantize.sinkhorn import balance, scaled

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Assigned(NamedTuple):
    """The semantic IDs of one modality."""

    items: Int[np.ndarray, " m"]  # item ids that have the modality, ascending
    nearest: Int[np.ndarray, "m l"]  # codes before anything is done about collisions
    codes: Int[np.ndarray, "m l"]  # and after
    suffix: Int[np.ndarray, " m"]  # int32, 0 for the first item with these codes


class Groups(NamedTuple):
    """Rows grouped by being equal."""

    label: Int[np.ndarray, " n"]  # group of each row
    size: Int[np.ndarray, " g"]


def group_rows(rows: np.ndarray) -> Groups:
    """Return which rows are equal; groups are numbered in the order of their values."""
    _, label, size = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return Groups(label.reshape(-1), size)


def suffixes(codes: Int[np.ndarray, "n l"], taken: Mapping[tuple[int, ...], int] | None = None) -> np.ndarray:
    """Return 0, 1, 2, ... for the rows with equal codes in their order; `taken` says where to begin."""
    begin = taken or {}
    seen: dict[tuple[int, ...], int] = {}
    found = np.zeros(len(codes), dtype=np.int32)
    for row, key in enumerate(map(tuple, codes.tolist())):
        found[row] = seen.get(key, begin.get(key, 0))
        seen[key] = int(found[row]) + 1
    return found


def assign(
    codec: Codec,
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    reassign: bool = False,
    epsilon: float = 0.05,
    iterations: int = 50,
) -> Assigned:
    """Return the IDs of the items that have the modality; codes and suffix together are unique.

    Args:
        codec: the modality of the trained quantizer.
        values: [n, d], row i = item i.
        present: which rows count.
        reassign: give colliding items with different inputs other last codes where some are free.
        epsilon: Sinkhorn's, of distances scaled to [-1, 1].
        iterations: Sinkhorn's.
    """
    items = np.flatnonzero(present)
    z = codec.encode(values[items])
    nearest = codec.codes(z)
    codes = _reassigned(codec, z, nearest, values[items], epsilon, iterations) if reassign else nearest
    return Assigned(items, nearest, codes, suffixes(codes))


def assign_new(
    codec: Codec,
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    item_keys: Sequence[str],
    known: pl.DataFrame,
) -> pl.DataFrame:
    """Return the IDs of all given items from frozen codebooks: known items keep theirs, new ones get the nearest.

    Args:
        codec: the modality of the frozen quantizer.
        values: [n, d].
        present: which rows count.
        item_keys: the outside world's name of each row; ids may have moved since.
        known: columns item_key, codes, suffix, of this modality.

    Returns:
        Columns item_key, codes, suffix, new; the items that have the modality, in the order given.

    Raises:
        InputError: an item key twice.
    """
    keys = np.asarray(item_keys, dtype=object)[present]
    if len(set(keys)) < len(keys) or known["item_key"].is_duplicated().any():
        raise InputError("item keys", expected="each once", found="one twice", remedy="deduplicate the catalogue")
    old = {
        key: (tuple(codes), suffix) for key, codes, suffix in known.select("item_key", "codes", "suffix").iter_rows()
    }
    taken: dict[tuple[int, ...], int] = {}
    for codes, suffix in old.values():
        taken[codes] = max(taken.get(codes, 0), suffix + 1)
    fresh = np.array([key not in old for key in keys], dtype=bool)
    found = codec.codes(codec.encode(values[present][fresh]))
    found_suffix = suffixes(found, taken)
    given = iter(zip(map(tuple, found.tolist()), found_suffix.tolist(), strict=True))
    rows = [next(given) if new else old[key] for key, new in zip(keys, fresh, strict=True)]
    return pl.DataFrame(
        {
            "item_key": keys.tolist(),
            "codes": [list(codes) for codes, _ in rows],
            "suffix": [suffix for _, suffix in rows],
            "new": fresh.tolist(),
        },
        schema={
            "item_key": pl.String,
            "codes": pl.Array(pl.Int32, codec.levels),
            "suffix": pl.Int32,
            "new": pl.Boolean,
        },
    )


def table(assigned: Mapping[str, Assigned], levels: int) -> pl.DataFrame:
    """Return the IDs of all modalities as the artifact's columns."""
    frames = [
        pl.DataFrame(
            {
                "item_id": one.items.astype(np.int32),
                "modality": [name] * len(one.items),
                "codes": np.ascontiguousarray(one.codes, dtype=np.int32),
                "suffix": one.suffix,
            },
            schema_overrides={"modality": pl.String, "codes": pl.Array(pl.Int32, levels)},
        )
        for name, one in assigned.items()
    ]
    return pl.concat(frames)


def _reassigned(
    codec: Codec, z: np.ndarray, nearest: np.ndarray, values: np.ndarray, epsilon: float, iterations: int
) -> np.ndarray:
    """Give every different input of a colliding group another last code: a balanced plan, rounded one to one."""
    codes, last = nearest.copy(), codec.codebooks[-1]
    groups, prefixes, inputs = group_rows(nearest), group_rows(nearest[:, :-1]), group_rows(values)
    colliding = groups.size[groups.label] > 1
    residual = z - codec.vectors(nearest) + last[nearest[:, -1]]
    for prefix in np.unique(prefixes.label[colliding]):
        rows = np.flatnonzero(prefixes.label == prefix)
        moving = rows[colliding[rows]]
        free = np.setdiff1d(np.arange(len(last)), nearest[rows[~colliding[rows]], -1])
        first = moving[np.unique(inputs.label[moving], return_index=True)[1]]  # one row of each different input
        if len(first) < 2:
            continue
        first = np.sort(first)[: len(free)]
        costs = scaled(np.square(residual[first][:, None, :] - last[free][None, :, :]).sum(2))
        plan = balance(np.exp((costs.min(1, keepdims=True) - costs) / epsilon), iterations)
        row, column = linear_sum_assignment(-plan)
        chosen = dict(zip(inputs.label[first[row]].tolist(), free[column].tolist(), strict=True))
        for item in moving:
            codes[item, -1] = chosen.get(int(inputs.label[item]), codes[item, -1])
    return codes
