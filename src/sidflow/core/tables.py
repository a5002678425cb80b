"""Table artifacts: Parquet, sorted by primary key, with schema name and version in the footer, checked on read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sidflow.core.disk import disk_error
from sidflow.core.errors import InputError
from sidflow.core.files import VersionedArtifact, atomic_path, note_write

FOOTER = b"sidflow"
REPORT_DEFECT = "report this as a defect of the stage that writes it"


@dataclass(frozen=True)
class Vector:
    """A column of fixed-size arrays whose width the artifact's writer chooses."""

    value: pa.DataType


@dataclass(frozen=True)
class Table(VersionedArtifact):
    """One table artifact: its path, columns, primary key and checks."""

    columns: Mapping[str, pa.DataType | Vector]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()  # columns that a file may lack
    checks: tuple[Callable[[pl.DataFrame, str], None], ...] = field(default=())

    def write(self, frame: pl.DataFrame, metadata: Mapping[str, object] | None = None, **names: str) -> Path:
        """Sort by key, check and write the artifact; return its path.

        Args:
            frame: with the artifact's columns, in any order.
            metadata: JSON values for the footer, beside schema and version.
            names: the path's placeholders.

        Raises:
            InputError: columns are missing, unknown, null or of another type, the key is not unique, or a check fails.
        """
        path = self.at(**names)
        missing = [column for column in self.columns if column not in frame.columns and column not in self.optional]
        extra = [column for column in frame.columns if column not in self.columns]
        if missing or extra:
            raise InputError(
                str(path),
                expected=f"columns {list(self.columns)}",
                found=f"missing {missing}, unknown {extra}",
                remedy=REPORT_DEFECT,
            )
        frame = frame.select([column for column in self.columns if column in frame.columns])
        arrow = (frame if _order(frame, self.key).increasing else frame.sort(self.key)).to_arrow()
        arrow = self._cast(arrow, path)
        self._verify(arrow, path, written_here=True)
        footer = {FOOTER: json.dumps({"schema": self.name, "version": self.version, **(metadata or {})}).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(arrow.replace_schema_metadata(footer), temporary, compression="zstd", store_schema=True)
        note_write(path)
        return path

    def read(self, columns: list[str] | None = None, **names: str) -> pl.DataFrame:
        """Return the artifact, checked.

        Args:
            columns: the columns to read; None for all.
            names: the path's placeholders.

        Raises:
            InputError: the file is absent, of another schema or version, or breaks a check.
        """
        path = self.at(**names)
        self._footer(path)
        with _readable(path):
            arrow = pq.read_table(path, columns=self._present(columns, path))
        self._verify(arrow, path, written_here=False)
        frame = pl.from_arrow(arrow)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _present(self, columns: list[str] | None, path: Path) -> list[str] | None:
        """Return `columns` without those that the file may lack and does."""
        if columns is None or not self.optional & set(columns):
            return columns
        present = set(pq.read_schema(path).names)
        return [column for column in columns if column in present or column not in self.optional]

    def metadata(self, **names: str) -> dict[str, object]:
        """Return the footer of the artifact: its metadata, schema and version.

        Raises:
            InputError: the file is absent, or of another schema or version.
        """
        return self._footer(self.at(**names))

    def empty(self, width: int = 0) -> pl.DataFrame:
        """Return the artifact without rows; `width` is that of its vector columns."""
        columns = {name: kind for name, kind in self.columns.items() if name not in self.optional}
        schema = pa.schema([(name, self._type(kind, width)) for name, kind in columns.items()])
        frame = pl.from_arrow(schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _footer(self, path: Path) -> dict[str, object]:
        """Return the footer of a file of this schema and version."""
        self.require_file(path, "a table")
        with _readable(path):
            footer = json.loads((pq.read_schema(path).metadata or {}).get(FOOTER, b"{}"))
        self.check_schema(path, footer)
        return footer

    def _type(self, kind: pa.DataType | Vector, width: int) -> pa.DataType:
        return pa.list_(kind.value, width) if isinstance(kind, Vector) else kind

    def _cast(self, arrow: pa.Table, path: Path) -> pa.Table:
        fields = []
        for name in arrow.column_names:
            kind, actual = self.columns[name], arrow.schema.field(name).type
            width = actual.list_size if pa.types.is_fixed_size_list(actual) else 0
            if isinstance(kind, Vector) and not pa.types.is_fixed_size_list(actual):
                raise InputError(
                    str(path),
                    expected=f"column {name} as fixed-size arrays",
                    found=str(actual),
                    remedy=REPORT_DEFECT,
                )
            fields.append(pa.field(name, self._type(kind, width)))
        try:
            return arrow.cast(pa.schema(fields))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise InputError(
                str(path),
                expected=f"columns that cast to `{self.name}`",
                found=str(error),
                remedy=REPORT_DEFECT,
            ) from error

    def _verify(self, arrow: pa.Table, path: Path, *, written_here: bool) -> None:
        remedy = REPORT_DEFECT if written_here else "rerun the stage that writes it"
        for name in arrow.column_names:
            kind, actual = self.columns[name], arrow.schema.field(name).type
            fits = (
                pa.types.is_fixed_size_list(actual) and actual.value_type == kind.value
                if isinstance(kind, Vector)
                else actual == kind
            )
            if not fits:
                raise InputError(str(path), expected=f"column {name} of type {kind}", found=str(actual), remedy=remedy)
            nulls = arrow.column(name).null_count
            if nulls and name not in self.nullable:
                raise InputError(str(path), expected=f"no nulls in {name}", found="nulls", count=nulls, remedy=remedy)
        if not set(self.key) <= set(arrow.column_names):
            return
        keys = pl.from_arrow(arrow.select(list(self.key)))
        assert isinstance(keys, pl.DataFrame)
        order = _order(keys, self.key)
        if order.repeated:
            raise InputError(
                str(path),
                expected=f"unique {self.key}",
                found="repeated keys",
                count=order.repeated,
                example=keys.row(order.first_repeated),
                remedy=remedy,
            )
        if not order.increasing:
            raise InputError(str(path), expected=f"rows sorted by {self.key}", found="another order", remedy=remedy)
        if set(self.columns) - self.optional <= set(arrow.column_names):
            frame = pl.from_arrow(arrow)
            assert isinstance(frame, pl.DataFrame)
            for check in self.checks:
                check(frame, str(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise what pyarrow says of a damaged file as an `InputError`; failures of the disk stay what they are."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if disk_error(error) is not None:
            raise
        message = " ".join(str(error).split())[:200]
        raise InputError(
            str(path), expected="a Parquet file", found=message, remedy="delete it and run `dvc repro`"
        ) from error


class _Order(NamedTuple):
    increasing: bool  # every key is greater than the one before: sorted and unique
    repeated: int  # number of rows whose key equals a neighbour's
    first_repeated: int  # row


def _order(frame: pl.DataFrame, key: tuple[str, ...]) -> _Order:
    """Return how keys are ordered, from comparisons of neighbours, without sorting or hashing."""
    greater, equal = pl.lit(False), pl.lit(True)
    for name in key:
        column = pl.col(name)
        greater = greater | (equal & (column > column.shift()))
        equal = equal & (column == column.shift())
    if frame.height < 2:
        return _Order(True, 0, 0)
    steps = frame.select(greater.fill_null(False).alias("greater"), equal.fill_null(False).alias("equal")).slice(1)
    first_equal = steps["equal"].arg_max()
    return _Order(bool(steps["greater"].all()), _count_in_runs(steps["equal"]), int(first_equal or 0))


def _count_in_runs(equal: pl.Series) -> int:
    """Return the number of rows in runs of equal keys; `equal` marks the rows that equal the one before."""
    return int(equal.sum()) + int((equal & ~equal.shift(fill_value=False)).sum())


def dense_ids(column: str) -> Callable[[pl.DataFrame, str], None]:
    """Return a check that `column` is 0, 1, 2, ... without a gap."""

    def check(frame: pl.DataFrame, path: str) -> None:
        wrong = frame.with_row_index("row").filter(pl.col("row") != pl.col(column))
        if wrong.height:
            raise InputError(
                path,
                expected=f"{column} dense from 0",
                found="gaps",
                count=wrong.height,
                example=wrong[column][0],
                remedy="rerun the stage that writes it",
            )

    return check
