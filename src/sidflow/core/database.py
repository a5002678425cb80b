"""SQLite files that survive a kill at any moment: what is kept between runs, such as answers and vectors of models.

The file is in write-ahead mode: readers and one writer at a time do not wait for each other, and what was added is in
the file when the call returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sidflow.core.disk import check_file_target, disk_errors
from sidflow.core.errors import InputError

WAIT_SECONDS = 60  # for another process that is writing
LOOKUP = 500  # keys in one statement; SQLite allows 999 in every build


class Schema(NamedTuple):
    """What a file holds."""

    name: str  # as in messages: `response store`
    format: int  # of the table, in SQLite's `user_version`
    table: str  # the statement that makes it
    remedy: str  # for a file that cannot be used


@contextmanager
def open_database(path: Path, schema: Schema, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the file at `path`, and close it when the block ends.

    Args:
        path: the file; made where it is absent, unless `read_only`.
        schema: what it holds.
        read_only: for a disk that cannot be written. An absent file is an empty one.

    Raises:
        InputError: the file holds something else, is damaged, or cannot be opened.
    """
    with database_errors(path, schema):
        if not read_only:
            check_file_target(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        elif path.is_dir():
            raise IsADirectoryError(21, "", str(path))
        connection = _connect(path, schema, read_only=read_only)
    with closing(connection):
        yield connection


def _connect(path: Path, schema: Schema, *, read_only: bool) -> sqlite3.Connection:
    absent = not path.exists()
    if read_only and absent:
        connection = sqlite3.connect(":memory:")
    elif read_only:
        log = path.with_name(path.name + "-wal")  # a file in use has a log, which must be read too
        mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=WAIT_SECONDS)
    else:
        connection = sqlite3.connect(path, timeout=WAIT_SECONDS)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version != schema.format and (tables or version):
            raise sqlite3.DatabaseError(f"a database of format {version}")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        if not tables and (absent or not read_only):
            with connection:
                connection.execute(schema.table)
                connection.execute(f"PRAGMA user_version = {schema.format}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def database_errors(path: Path, schema: Schema) -> Iterator[None]:
    """Raise SQLite's errors as an `InputError` about `path`."""
    try:
        with disk_errors(path):
            yield
    except sqlite3.Error as error:
        full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
        raise InputError(
            str(path),
            expected="room on the disk" if full else f"a {schema.name} of format {schema.format}",
            found=str(error),
            remedy="free disk space; what it holds so far is kept" if full else schema.remedy,
        ) from error
