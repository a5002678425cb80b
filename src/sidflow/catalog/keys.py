"""From the outside world's keys to dense codes: by sorted key, as numbers only where every key is one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl


class Coded(NamedTuple):
    """A column of keys as codes."""

    codes: np.ndarray  # int32 [events], indices into keys
    keys: list[str]  # in key order


def sort_keys(keys: pl.Series) -> pl.Series:
    """Return the distinct keys as strings in key order: numerically if all are integers, else as strings."""
    text = keys.unique().cast(pl.String).unique()
    whole = text.str.contains(r"^-?[0-9]{1,18}$").all()
    if not (whole and len(text)):
        return text.sort()
    return text.to_frame("key").sort(pl.col("key").cast(pl.Int64), pl.col("key"))["key"]


def code(column: pl.Series, keys: pl.Series | None = None) -> Coded:
    """Return `column` as int32 codes; `keys` are its keys in key order, found from the column if left out."""
    ordered = sort_keys(column) if keys is None else keys
    if isinstance(column.dtype, pl.Categorical):
        distinct = column.unique()
        physical = distinct.to_physical().to_numpy()
        rank = np.zeros(int(physical.max(initial=0)) + 1, dtype=np.int32)
        rank[physical] = code(distinct.cast(pl.String), ordered).codes
        return Coded(rank[column.to_physical().to_numpy()], ordered.to_list())
    codes = column.cast(pl.String).cast(pl.Enum(ordered)).to_physical().to_numpy()
    return Coded(codes.astype(np.int32), ordered.to_list())
