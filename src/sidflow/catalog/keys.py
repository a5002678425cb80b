"""Keys of users and items: text or whole numbers, written alike in every file.

Text loses surrounding blanks, and `10.0` becomes `10`, as tables with gaps write integers. What stands for no key
(null, NaN, true, lists, empty text) is refused, never made an item of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import polars as pl

from sidflow.core.errors import InputError

EXACT_FLOAT_BOUND = 2**53  # below it floats represent whole numbers exactly
_EXACT_BOUNDS = {pl.Float16: 2**11, pl.Float32: 2**24}  # the same of shorter floats
EXPECTED_KEY = "text or a whole number as key"
# Texts that programs write for a missing value or a truth value.
NO_KEYS = (
    *("", "nan", "NaN", "NAN", "-nan", "null", "NULL", "Null", "None", "<NA>", "NaT", "N/A", "#N/A", "\\N"),
    *("inf", "-inf", "Infinity", "-Infinity", "true", "false", "True", "False", "TRUE", "FALSE"),
)
_BLANKS = "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C)))) + (
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_WHOLE_FLOAT = r"^(-?)0*([0-9]+)\.0*$"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character: a text that was cut inside
# NUL, which a fast reader makes of lone surrogates; spreadsheets' `1.23457E+12`, which is rounded; lists and mappings.
NO_KEY_MARK = "\0"  # begins the text of a value that is no key, in columns that hold text alone
_DAMAGED = r"\x00|^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$|^-?[0-9]\.[0-9]+[eE][0-9]+$|^\[.*\]$|^\{.*:.*\}$"


class CleanKeys(NamedTuple):
    """A column of keys in their one spelling."""

    keys: pl.Series  # text, categorical text or integers
    bad: pl.Series  # bool: the row has no key
    repaired: pl.Series  # bool: the row's key was written with blanks or as a whole float


def clean_keys(column: pl.Series) -> CleanKeys:
    """Return a column's keys in their one spelling; rows without a key are marked."""
    kind = column.dtype
    nothing = pl.repeat(False, len(column), eager=True)
    if kind.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < exact_float_bound(kind))
        whole = whole.fill_null(False)
        return CleanKeys(column.cast(pl.Int64, strict=False), ~whole, nothing)
    if kind.is_integer():
        return CleanKeys(column, column.is_null(), nothing)
    if not _can_hold_keys(kind):
        return CleanKeys(column, ~nothing, nothing)
    distinct = column.unique().cast(pl.String)
    clean = _clean_text(distinct)
    changed = distinct.filter((clean != distinct).fill_null(False))
    missing = distinct.filter(_is_no_key(clean))
    if not (len(changed) or len(missing)):
        return CleanKeys(column, nothing, nothing)
    text = column.cast(pl.String)
    repaired = text.is_in(changed.implode()).fill_null(False)
    bad = text.is_in(missing.implode()).fill_null(False) | text.is_null()
    if len(changed):
        text = _clean_text(text)
        column = text.cast(pl.Categorical) if kind == pl.Categorical else text
    return CleanKeys(column, bad, repaired)


def exact_float_bound(kind: pl.DataType) -> int:
    """Return the number below which floats of a type represent whole numbers exactly."""
    return _EXACT_BOUNDS.get(type(kind), EXACT_FLOAT_BOUND)


def _can_hold_keys(kind: pl.DataType) -> bool:
    return kind.is_float() or kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)


def _clean_text(text: pl.Series) -> pl.Series:
    return text.str.strip_chars(_BLANKS).str.replace(_WHOLE_FLOAT, "${1}${2}")


def _is_no_key(text: pl.Series) -> pl.Series:
    return text.is_null() | text.is_in(NO_KEYS) | text.str.contains(_DAMAGED).fill_null(False)


def json_key(value: object) -> str | None:
    """Return the text of a key in JSON; None where it is neither text nor a whole number."""
    if isinstance(value, str):
        return None if _LONE_SURROGATE.search(value) else value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_FLOAT_BOUND:
        return str(int(value))
    return None


def describe_value(value: Any) -> str:
    """Return a value as JSON writes it, cut to 60 characters."""
    try:
        return json.dumps(value, ensure_ascii=_has_half_characters(value), default=str)[:60]
    except (ValueError, RecursionError):
        return str(type(value).__name__)


def _has_half_characters(value: object) -> bool:
    return bool(_LONE_SURROGATE.search(str(value)))


def require_keys(
    column: pl.Series,
    artifact: str,
    row_name: Callable[[int], str],
    *,
    name: str,
    values: Callable[[int], object] | None = None,
) -> tuple[pl.Series, int]:
    """Return a column's keys in their one spelling, and the number of rows that were written otherwise.

    Args:
        column: one key a row.
        artifact: the file, for the error message.
        row_name: says where a row stands, such as `row 3`.
        name: of the column.
        values: a row's value as the file has it; None takes the column's.

    Raises:
        InputError: a row has no key.
    """
    cleaned = clean_keys(column)
    if cleaned.bad.any():
        if cleaned.bad.all() and not _can_hold_keys(column.dtype):
            raise InputError(
                artifact, expected=f"{EXPECTED_KEY} (`{name}`)", found=f"{column.dtype}", remedy="convert the column"
            )
        row = int(cleaned.bad.arg_max() or 0)
        value = values(row) if values else column[row]
        marked = isinstance(value, str) and value.startswith(NO_KEY_MARK)
        shown = str(value).removeprefix(NO_KEY_MARK) if marked else describe_value(value)
        raise InputError(
            artifact,
            expected=f"{EXPECTED_KEY} (`{name}`), in every row",
            found=f"{shown} in {row_name(row)}",
            count=int(cleaned.bad.sum()),
            remedy="repair or remove these rows",
        )
    return cleaned.keys, int(cleaned.repaired.sum())
