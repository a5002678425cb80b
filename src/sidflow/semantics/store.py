"""The response store: every answer of a language model, in one SQLite file that survives a kill at any moment.

An answer is kept under the hash of everything that it depends on (see `requests.request_key`), so that only what is
missing is asked, and a store can be exported, merged and shared. An answer is in the file when `add` returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sidflow.core.database import LOOKUP, Schema, database_errors, open_database
from sidflow.core.files import atomic_path

_COLUMNS = "key, text, finish_reason, input_tokens, output_tokens, model"
SCHEMA = Schema(
    name="response store",
    format=1,
    table="""
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    model TEXT NOT NULL
) WITHOUT ROWID
""",
    remedy="move the file away (its answers are asked again), or set SIDFLOW_RESPONSES to another",
)
REJECTED = "rejected"  # why a response that is no answer ended
_ADD = f"""
INSERT INTO responses ({_COLUMNS}) VALUES (?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE
SET (text, finish_reason, input_tokens, output_tokens, model) =
    (excluded.text, excluded.finish_reason, excluded.input_tokens, excluded.output_tokens, excluded.model)
WHERE responses.finish_reason = '{REJECTED}' AND excluded.finish_reason != '{REJECTED}'
"""


class Response(NamedTuple):
    """What a model answered to one request."""

    key: str  # the request's, 64 hex digits
    text: str  # as the model wrote it; of a huge one the beginning
    finish_reason: str  # stop | length (cut at the token limit) | rejected | huge (cut here) | another of the server
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
        with database_errors(self.path, SCHEMA):
            for start in range(0, len(keys), LOOKUP):
                part = keys[start : start + LOOKUP]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT {_COLUMNS} FROM responses WHERE key IN ({marks})", part)
                responses.update((row[0], Response(*row)) for row in rows)
        return responses

    def add(self, responses: Iterable[Response]) -> None:
        """Keep the responses, all or none; where the key is there already, only an answer in place of a rejection.

        Raises:
            InputError: the disk is full, the file is damaged or may not be written.
        """
        with database_errors(self.path, SCHEMA), self._connection:
            self._connection.executemany(_ADD, responses)

    def has_answer(self, model: str) -> bool:
        """Return whether a model, by name and revision, has answered anything, other than by a rejection."""
        with database_errors(self.path, SCHEMA):
            row = self._connection.execute(
                "SELECT EXISTS (SELECT 1 FROM responses WHERE model = ? AND finish_reason != ?)", (model, REJECTED)
            ).fetchone()
        return bool(row[0])

    def size(self, model: str | None = None) -> StoreSize:
        """Return the number of responses and of their tokens: of one model, by name and revision, or of all."""
        with database_errors(self.path, SCHEMA):
            row = self._connection.execute(
                "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM responses "
                "WHERE ?1 IS NULL OR model = ?1",
                (model,),
            ).fetchone()
        return StoreSize(*row)

    def sizes(self) -> dict[str, StoreSize]:
        """Return the same of each model, by name and revision: the ledger of what was asked."""
        with database_errors(self.path, SCHEMA):
            rows = self._connection.execute(
                "SELECT model, count(*), sum(input_tokens), sum(output_tokens) FROM responses GROUP BY model ORDER BY 1"
            ).fetchall()
        return {row[0]: StoreSize(*row[1:]) for row in rows}

    def merge(self, other: Path) -> int:
        """Take the responses of another store that are missing or rejections here; return how many.

        Raises:
            InputError: `other` is no store.
        """
        before = self._connection.total_changes
        with open_store(other, read_only=True) as source:
            for batch in source._batches():
                self.add(batch)
        return self._connection.total_changes - before

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
            with database_errors(self.path, SCHEMA):
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
    with open_database(path, SCHEMA, read_only=read_only) as connection:
        yield ResponseStore(connection, path)
