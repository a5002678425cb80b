"""The response store: every answer of a language model, in one SQLite file that survives a kill at any moment.

An answer is kept under the hash of everything that it depends on (see `requests.request_key`), so that only what is
missing is asked, and a store can be exported, merged and shared. The file is in write-ahead mode: readers and one
writer at a time do not wait for each other, and an answer is in the file when `add` returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sidflow.core.disk import check_file_target, disk_errors
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path

FORMAT = 1  # of the table below, in SQLite's `user_version`
WAIT_SECONDS = 60  # for another process that is writing
_LOOKUP = 500  # keys in one statement; SQLite allows 999 in every build
_COLUMNS = "key, text, finish_reason, input_tokens, output_tokens, model"
_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    model TEXT NOT NULL
) WITHOUT ROWID
"""


class Response(NamedTuple):
    """What a model answered to one request."""

    key: str  # the request's, 64 hex digits
    text: str  # as the model wrote it
    finish_reason: str  # stop | length (cut at the token limit) | another reason of the server
    input_tokens: int
    output_tokens: int
    model: str  # name and revision


class StoreSize(NamedTuple):
    """How much a store holds."""

    responses: int
    input_tokens: int
    output_tokens: int


class ResponseStore:
    """Responses by key. Use `open_store`, which closes it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path

    def get(self, keys: Sequence[str]) -> dict[str, Response]:
        """Return the stored responses of `keys`, by key; keys without one are left out."""
        responses: dict[str, Response] = {}
        with _store_errors(self.path):
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT {_COLUMNS} FROM responses WHERE key IN ({marks})", part)
                responses.update((row[0], Response(*row)) for row in rows)
        return responses

    def add(self, responses: Iterable[Response]) -> None:
        """Keep the responses, all or none; one whose key is there already changes nothing.

        Raises:
            InputError: the disk is full, the file is damaged or may not be written.
        """
        with _store_errors(self.path), self._connection:
            self._connection.executemany(
                f"INSERT INTO responses ({_COLUMNS}) VALUES (?,?,?,?,?,?) ON CONFLICT (key) DO NOTHING", responses
            )

    def size(self) -> StoreSize:
        """Return the number of responses and of their tokens."""
        with _store_errors(self.path):
            row = self._connection.execute(
                "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM responses"
            ).fetchone()
        return StoreSize(*row)

    def merge(self, other: Path) -> int:
        """Take the responses of another store that are missing here; return how many.

        Raises:
            InputError: `other` is no store.
        """
        before = self.size().responses
        with open_store(other, read_only=True) as source:
            for batch in source._batches():
                self.add(batch)
        return self.size().responses - before

    def export(self, path: Path, keys: Sequence[str] | None = None) -> int:
        """Write a store with the responses of `keys`, or with all, to `path`; return how many.

        Raises:
            InputError: `path` cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.unlink()  # SQLite makes its own file
            with open_store(temporary) as target:
                batches = self._batches() if keys is None else [list(self.get(keys).values())]
                for batch in batches:
                    target.add(batch)
                count = target.size().responses
                target._connection.execute("PRAGMA journal_mode = DELETE")  # one file, without its log
        return count

    def _batches(self, size: int = 10_000) -> Iterator[list[Response]]:
        last = ""
        while True:
            with _store_errors(self.path):
                rows = self._connection.execute(
                    f"SELECT {_COLUMNS} FROM responses WHERE key > ? ORDER BY key LIMIT ?", (last, size)
                ).fetchall()
            if not rows:
                return
            yield [Response(*row) for row in rows]
            last = rows[-1][0]


@contextmanager
def open_store(path: Path, *, read_only: bool = False) -> Iterator[ResponseStore]:
    """Open the store at `path`, and close it when the block ends.

    Args:
        path: the file; made where it is absent, unless `read_only`.
        read_only: for a store on a disk that cannot be written. An absent file is an empty store.

    Raises:
        InputError: the file is no response store, is damaged, or cannot be opened.
    """
    with _store_errors(path):
        if not read_only:
            check_file_target(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        elif path.is_dir():
            raise IsADirectoryError(21, "", str(path))
        connection = _connect(path, read_only=read_only)
    with closing(connection):
        yield ResponseStore(connection, path)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    absent = not path.exists()
    if read_only and absent:
        connection = sqlite3.connect(":memory:")
    elif read_only:
        log = path.with_name(path.name + "-wal")  # a store in use has a log, which must be read too
        mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=WAIT_SECONDS)
    else:
        connection = sqlite3.connect(path, timeout=WAIT_SECONDS)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version != FORMAT and (tables or version):
            raise sqlite3.DatabaseError(f"a database of format {version}")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        if not tables and (absent or not read_only):
            with connection:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as an `InputError` about `path`."""
    try:
        with disk_errors(path):
            yield
    except sqlite3.Error as error:
        full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
        raise InputError(
            str(path),
            expected="room on the disk" if full else f"a response store of format {FORMAT}",
            found=str(error),
            remedy="free disk space; the answers so far are kept"
            if full
            else "move the file away (its answers are asked again), or set SIDFLOW_RESPONSES to another",
        ) from error
