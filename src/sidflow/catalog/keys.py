"""Dense integer ids of the source's keys, in key order: numeric where every key is an integer, else as text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl


class EncodedKeys(NamedTuple):
    """A column of keys as indices into the sorted keys."""

    codes: np.ndarray  # int32 [events], indices into keys
    keys: list[str]  # in key order


def sort_keys(keys: pl.Series) -> pl.Series:
    """Return the distinct keys as strings, sorted numerically if all are integers, else as strings."""
    text = keys.unique().cast(pl.String).unique()
    integers = text.str.contains(r"^-?[0-9]{1,18}$").all()
    if not (integers and len(text)):
        return text.sort()
    return text.to_frame("key").sort(pl.col("key").cast(pl.Int64), pl.col("key"))["key"]


def encode_keys(column: pl.Series, keys: pl.Series | None = None) -> EncodedKeys:
    """Return `column` as int32 indices into `keys`, its keys in key order; None takes them from the column."""
    ordered = sort_keys(column) if keys is None else keys
    if isinstance(column.dtype, pl.Categorical):
        distinct = column.unique()
        physical = distinct.to_physical().to_numpy()
        rank = np.zeros(int(physical.max(initial=0)) + 1, dtype=np.int32)
        rank[physical] = encode_keys(distinct.cast(pl.String), ordered).codes
        return EncodedKeys(rank[column.to_physical().to_numpy()], ordered.to_list())
    codes = column.cast(pl.String).cast(pl.Enum(ordered)).to_physical().to_numpy()
    return EncodedKeys(codes.astype(np.int32), ordered.to_list())
