"""Times of events as whole seconds UTC. Another unit than the declared one, and times that cannot be, are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sidflow.catalog.keys import exact_float_bound
from sidflow.core.errors import InputError

UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
YEAR_1971, YEAR_1990, YEAR_2100 = 31_536_000, 631_152_000, 4_102_444_800  # seconds
FOREIGN_SHARE = 0.9  # of the times; where as many fit another unit only, that unit is meant
COUNTERS_BELOW = 86_400  # seconds; a few smaller numbers are taken as a hand-made example
MIN_EVENTS, MIN_EQUAL = 100, 3  # from so many on, events that are all in 1970, or all at one time, are refused
REPAIR = "repair or remove these rows"
_ISO = (
    r"^\s*(?<date>\d{4}-\d{2}-\d{2})(?:[T ](?<clock>\d{2}:\d{2})(?<second>:\d{2})?(?:[.,]\d+)?"
    r"\s?(?:[Zz]|(?<sign>[+-])(?<hours>\d{2}):?(?<minutes>\d{2})?)?)?\s*$"
)


class TimeColumn(NamedTuple):
    """A column of times and what a message needs about it."""

    values: pl.Series
    unit: str  # a key of UNITS_PER_SECOND, of numbers
    path: Path
    name: str  # in the file
    unit_remedy: str  # how to declare the unit UNIT


def whole_seconds(column: TimeColumn) -> pl.Series:
    """Return the times as Int64 seconds UTC.

    Raises:
        InputError: a row has no time; the times are in another unit; a time is before 1970 or after 2099, or in 1970
            where others are later; all are in 1970, or all the same.
    """
    values = column.values
    if isinstance(values.dtype, (pl.Categorical, pl.Enum)):
        values = values.cast(pl.String)
    _check_rows(column, values.is_not_null(), "a value in every row", REPAIR)
    if values.dtype.is_float():
        exact = (values.abs() < exact_float_bound(values.dtype)) | ~values.is_finite()
        remedy = "write the times as whole numbers or as floats of 64 bits"
        _check_rows(column, exact | (values.dtype == pl.Float64), "a number that the column holds exactly", remedy)
    numbers = numbers_of(values)
    seconds = _calendar_seconds(values) if numbers is None else numbers // UNITS_PER_SECOND[column.unit]
    _check_rows(column, seconds.is_not_null(), "a number, date or ISO time in every row", _remedy_of_texts(values))
    if numbers is not None:
        check_unit(column, numbers)
    in_range = seconds.is_between(0, YEAR_2100, closed="left")
    _check_rows(column, in_range, "years 1970 to 2099", f"{column.unit_remedy}, or {REPAIR}")
    check_variety(column, seconds, are_numbers=numbers is not None)
    if not in_1970(seconds).all():
        remedy = f"{column.unit_remedy}, or {REPAIR}: a time in 1970 often stands for a missing one"
        _check_rows(column, ~in_1970(seconds), "years 1971 to 2099", remedy)
    return seconds.cast(pl.Int64)


def positions(column: TimeColumn) -> pl.Series:
    """Return numbers that only order the events as ranks, Int64 from 0; equal numbers stay equal.

    Raises:
        InputError: a row has no number.
    """
    _check_rows(column, column.values.is_not_null(), "a value in every row", REPAIR)
    numbers = numbers_of(column.values)
    if numbers is None:
        numbers = pl.repeat(None, len(column.values), dtype=pl.Float64, eager=True)
    _check_rows(column, numbers.is_not_null(), "a number in every row", column.unit_remedy)
    return numbers.rank("dense").cast(pl.Int64) - 1


def numbers_of(values: pl.Series) -> pl.Series | None:
    """Return a column of numbers as it is, or of texts the numbers; None for a column of anything else.

    A text column has numbers where its first value is one. Infinity, NaN and texts that are no number become null.
    """
    if values.dtype == pl.String:
        whole = values.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole
        numbers = values.cast(pl.Float64, strict=False)
        return _finite(numbers) if len(numbers) and numbers[0] is not None else None
    if values.dtype.is_float():
        return _finite(values.cast(pl.Float64))
    if not values.dtype.is_integer():
        return None
    return values if values.dtype in (pl.UInt64, pl.Int128, pl.UInt128) else values.cast(pl.Int64)


def check_unit(column: TimeColumn, numbers: pl.Series) -> None:
    """Check that numbers are in the declared unit.

    Raises:
        InputError: nearly all are times between 1990 and 2100 in another unit, and none of the declared one.
    """
    floats = numbers.cast(pl.Float64)
    plausible = {
        unit: floats.is_between(YEAR_1990 * scale, YEAR_2100 * scale) for unit, scale in UNITS_PER_SECOND.items()
    }
    fitting = max(plausible, key=lambda unit: int(plausible[unit].sum()))
    if fitting == column.unit or int(plausible[fitting].sum()) < FOREIGN_SHARE * len(numbers):
        return
    example = int(numbers.filter(plausible[fitting])[0])
    raise InputError(
        str(column.path),
        expected=f"times in the unit `{column.unit}` in `{column.name}`",
        found=f"numbers that are times between 1990 and 2100 in the unit `{fitting}`, in `{column.unit}` "
        f"they are around {_year(example, column.unit)}",
        count=len(numbers),
        example=f"{example} = {_iso(example, fitting)}",
        remedy=column.unit_remedy.replace("UNIT", fitting),
    )


def check_variety(column: TimeColumn, seconds: pl.Series, *, are_numbers: bool) -> None:
    """Check that times tell events apart, and are not all in 1970.

    Raises:
        InputError: three events or more have the same time; or all are in 1970. Fewer than 100 small numbers may be
            so: they are a hand-made example.
    """
    if not len(seconds):
        return
    if len(seconds) >= MIN_EQUAL and seconds.min() == seconds.max():
        raise InputError(
            str(column.path),
            expected=f"times in `{column.name}` that tell events apart",
            found="one time for all of them",
            count=len(seconds),
            example=_shown(column.values, 0),
            remedy="give the time of each event; where the rows are in order, use a source or a setting without times "
            "(files: ingest.files.timestamp empty)",
        )
    is_example = are_numbers and len(seconds) < MIN_EVENTS and bool((seconds < COUNTERS_BELOW).all())
    if in_1970(seconds).all() and not is_example:
        raise InputError(
            str(column.path),
            expected=f"times in `{column.name}`",
            found="the year 1970 for everything",
            count=len(seconds),
            example=_shown(column.values, 0),
            remedy=f"{_with_all_units(column.unit_remedy)}; numbers that only order the events are "
            "ingest.files.timestamp_unit: position, and dates are written like 2024-12-31",
        )


def stray_times(seconds: pl.Series) -> pl.Series:
    """Return which times cannot be: before 1970, after 2099, or in 1970 where most are later, bool."""
    possible = seconds.is_between(0, YEAR_2100, closed="left")
    later = (possible & ~in_1970(seconds)).sum()
    return ~possible | (in_1970(seconds) & (later * 2 > len(seconds)))


def in_1970(seconds: pl.Series) -> pl.Series:
    """Return which times are in the year 1970."""
    return seconds < YEAR_1971


def _finite(values: pl.Series) -> pl.Series:
    return pl.select(pl.when(values.is_finite()).then(values)).to_series()


def _calendar_seconds(values: pl.Series) -> pl.Series:
    """Return seconds of dates, times or ISO texts; null where a value is none, or for a column of another type."""
    if isinstance(values.dtype, pl.Date):
        return values.to_physical().cast(pl.Int64) * 86_400
    if isinstance(values.dtype, pl.Datetime):
        return values.to_physical() // UNITS_PER_SECOND[str(values.dtype.time_unit)]
    if values.dtype != pl.String:
        return pl.repeat(None, len(values), dtype=pl.Int64, eager=True)
    parts = values.str.extract_groups(_ISO).struct.unnest()
    text = parts["date"] + " " + parts["clock"].fill_null("00:00") + parts["second"].fill_null(":00")
    local = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False).dt.epoch("s")
    hours, minutes = (parts[name].cast(pl.Int64).fill_null(0) for name in ("hours", "minutes"))
    offset = (hours * 60 + minutes) * 60
    return local - offset * pl.select(pl.when(parts["sign"] == "-").then(-1).otherwise(1)).to_series()


def _remedy_of_texts(values: pl.Series) -> str:
    if values.dtype == pl.String and values.str.contains(r"^\s*\d{1,4}[/.]\d{1,2}[/.]\d{1,4}").any():
        return "write dates as 2024-12-31: with slashes or dots, day and month cannot be told apart"
    return "convert the column, or set ingest.files.timestamp to another (empty: the file's order)"


def _check_rows(column: TimeColumn, good: pl.Series, expected: str, remedy: str) -> None:
    bad = ~good.fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            str(column.path),
            expected=f"{expected} of `{column.name}`",
            found="other values",
            count=int(bad.sum()),
            example=" ".join(f"row {row + 1}: {_shown(column.values, row)}".split()),
            remedy=_with_all_units(remedy),
        )


def _shown(values: pl.Series, row: int) -> str:
    """Return a row's value as text; a date that Python cannot hold as the number that stands for it."""
    if isinstance(values.dtype, (pl.Date, pl.Datetime, pl.Duration)):
        stored = values.to_physical()[row]
        unit = "days" if isinstance(values.dtype, pl.Date) else str(values.dtype.time_unit)
        seconds = None if stored is None else stored * 86_400 if unit == "days" else stored // UNITS_PER_SECOND[unit]
        if seconds is not None and not 0 <= seconds < YEAR_2100:
            return f"{stored} {unit}" + ("" if isinstance(values.dtype, pl.Duration) else " since 1970")
        if seconds is not None and not isinstance(values.dtype, pl.Duration):
            return datetime.fromtimestamp(seconds, UTC).isoformat(" ")
    return f"{values[row]}"


def _with_all_units(remedy: str) -> str:
    return remedy.replace("UNIT", "s, ms, us or ns")


def _iso(number: float, unit: str) -> str:
    return datetime.fromtimestamp(number // UNITS_PER_SECOND[unit], UTC).date().isoformat()


def _year(number: float, unit: str) -> str:
    return f"the year {int(1970 + number / UNITS_PER_SECOND[unit] / 31_556_952)}"
