"""The one reader and writer of tables: Parquet, sorted by primary key, schema name and version in the footer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sidflow.contracts import trace
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path, project_path

FOOTER = b"sidflow"
DEFECT = "report this as a defect of the stage that writes it"


@dataclass(frozen=True)
class Vector:
    """A column of fixed-size arrays whose width the artifact's writer chooses."""

    value: pa.DataType


@dataclass(frozen=True)
class Table:
    """One tabular artifact: where it lies, its columns, its key, and what must be true of it."""

    name: str
    version: int
    path: str
    columns: Mapping[str, pa.DataType | Vector]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    checks: tuple[Callable[[pl.DataFrame, str], None], ...] = field(default=())

    def at(self, **names: str) -> Path:
        """Return the path with its placeholders filled, for example `model="sasrec"`."""
        return project_path(self.path.format(**names))

    def write(self, frame: pl.DataFrame, metadata: Mapping[str, object] | None = None, **names: str) -> Path:
        """Sort by key, check, and write atomically, with `metadata` beside schema and version in the footer.

        Raises:
            InputError: a column is missing, null, of another type, or the key is not unique.
        """
        path = self.at(**names)
        missing = [column for column in self.columns if column not in frame.columns]
        extra = [column for column in frame.columns if column not in self.columns]
        if missing or extra:
            raise InputError(
                str(path),
                expected=f"columns {list(self.columns)}",
                found=f"missing {missing}, unknown {extra}",
                remedy=DEFECT,
            )
        frame = frame.select(list(self.columns))
        arrow = (frame if _order(frame, self.key).increasing else frame.sort(self.key)).to_arrow()
        arrow = self._cast(arrow, path)
        self._verify(arrow, path, made_here=True)
        footer = {FOOTER: json.dumps({"schema": self.name, "version": self.version, **(metadata or {})}).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(arrow.replace_schema_metadata(footer), temporary, compression="zstd", store_schema=True)
        trace.note_write(path)
        return path

    def read(self, columns: list[str] | None = None, **names: str) -> pl.DataFrame:
        """Read and check the artifact.

        Args:
            columns: the columns that are needed; all if left out.
            names: the path's placeholders.

        Raises:
            InputError: the file is absent, of another schema or version, or breaks a check.
        """
        path = self.at(**names)
        self._footer(path)
        arrow = pq.read_table(path, columns=columns)
        self._verify(arrow, path, made_here=False)
        frame = pl.from_arrow(arrow)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def metadata(self, **names: str) -> dict[str, object]:
        """Return what the artifact's footer says: what it was written with, schema and version.

        Raises:
            InputError: the file is absent, or of another schema or version.
        """
        return self._footer(self.at(**names))

    def empty(self, width: int = 0) -> pl.DataFrame:
        """Return the artifact with no rows; `width` is that of its vectors."""
        schema = pa.schema([(name, self._type(kind, width)) for name, kind in self.columns.items()])
        frame = pl.from_arrow(schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _footer(self, path: Path) -> dict[str, object]:
        trace.note_read(path)
        if not path.is_file():
            raise InputError(
                str(path),
                expected=f"a table `{self.name}`",
                found="no such file",
                remedy="run `dvc repro` (or `dvc pull`) to make it",
            )
        try:
            footer = json.loads((pq.read_schema(path).metadata or {}).get(FOOTER, b"{}"))
        except (pa.ArrowInvalid, ValueError) as error:
            raise InputError(
                str(path), expected="a Parquet file", found=str(error), remedy="delete it and run `dvc repro`"
            ) from error
        if (footer.get("schema"), footer.get("version")) != (self.name, self.version):
            raise InputError(
                str(path),
                expected=f"schema {self.name} version {self.version}",
                found=f"{footer.get('schema')} version {footer.get('version')}",
                remedy="run `dvc repro` with this version of sidflow",
            )
        return footer

    def _type(self, kind: pa.DataType | Vector, width: int) -> pa.DataType:
        return pa.list_(kind.value, width) if isinstance(kind, Vector) else kind

    def _cast(self, arrow: pa.Table, path: Path) -> pa.Table:
        fields = []
        for name, kind in self.columns.items():
            found = arrow.schema.field(name).type
            width = found.list_size if pa.types.is_fixed_size_list(found) else 0
            if isinstance(kind, Vector) and not pa.types.is_fixed_size_list(found):
                raise InputError(
                    str(path),
                    expected=f"column {name} as fixed-size arrays",
                    found=str(found),
                    remedy=DEFECT,
                )
            fields.append(pa.field(name, self._type(kind, width)))
        try:
            return arrow.cast(pa.schema(fields))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise InputError(
                str(path),
                expected=f"columns that cast to `{self.name}`",
                found=str(error),
                remedy=DEFECT,
            ) from error

    def _verify(self, arrow: pa.Table, path: Path, *, made_here: bool) -> None:
        remedy = (
            "report this as a defect of the stage that writes it" if made_here else "rerun the stage that writes it"
        )
        for name in arrow.column_names:
            kind, found = self.columns[name], arrow.schema.field(name).type
            fits = (
                pa.types.is_fixed_size_list(found) and found.value_type == kind.value
                if isinstance(kind, Vector)
                else found == kind
            )
            if not fits:
                raise InputError(str(path), expected=f"column {name} of type {kind}", found=str(found), remedy=remedy)
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
        if set(self.columns) <= set(arrow.column_names):
            frame = pl.from_arrow(arrow)
            assert isinstance(frame, pl.DataFrame)
            for check in self.checks:
                check(frame, str(path))


class _Order(NamedTuple):
    increasing: bool  # every key is greater than the one before: sorted, and unique
    repeated: int  # rows whose key equals a neighbour's
    first_repeated: int


def _order(frame: pl.DataFrame, key: tuple[str, ...]) -> _Order:
    """Compare each key with the one before: far less work than sorting or hashing, and no copy."""
    greater, equal = pl.lit(False), pl.lit(True)
    for name in key:
        column = pl.col(name)
        greater = greater | (equal & (column > column.shift()))
        equal = equal & (column == column.shift())
    if frame.height < 2:
        return _Order(True, 0, 0)
    steps = frame.select(greater.fill_null(False).alias("greater"), equal.fill_null(False).alias("equal")).slice(1)
    where = steps["equal"].arg_max()
    return _Order(bool(steps["greater"].all()), _in_runs(steps["equal"]), int(where or 0))


def _in_runs(equal: pl.Series) -> int:
    """Return how many rows belong to runs of equal keys, given which rows equal the one before."""
    return int(equal.sum()) + int((equal & ~equal.shift(fill_value=False)).sum())


def dense(column: str) -> Callable[[pl.DataFrame, str], None]:
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
