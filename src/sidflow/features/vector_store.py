"""The vector store: every vector of a trained model, in one SQLite file in the cache folder.

A vector is kept under the hash of all that it depends on: the tokens or the picture, the model's files, and how they
are run. So new items cost only themselves, a killed run loses the batch under way, and another encoder of the same
model finds what is there.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sidflow.core.database import LOOKUP, Schema, database_errors, open_database
from sidflow.core.runtime import load_runtime
from sidflow.core.stage import print_progress

FORMAT = 1  # of keys; raised where the same key would stand for other vectors
PROGRESS = 2000  # vectors between two lines
SCHEMA = Schema(
    name="vector store",
    format=1,
    table="CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)",
    remedy="move the file away: its vectors are computed again",
)
Batches = Iterator[tuple[Sequence[int], np.ndarray]]  # positions of contents, and their vectors [k, d]


class VectorStore:
    """Float32 vectors by key. Use `open_vectors`, which closes it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the stored vectors of `keys`, by key; keys without one are left out."""
        vectors: dict[bytes, np.ndarray] = {}
        with database_errors(self.path, SCHEMA):
            for start in range(0, len(keys), LOOKUP):
                part = keys[start : start + LOOKUP]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
                vectors.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows)
        return vectors

    def add(self, vectors: Iterable[tuple[bytes, np.ndarray]]) -> None:
        """Keep the vectors, all or none; one whose key is there already changes nothing.

        Raises:
            InputError: the disk is full, the file is damaged or may not be written.
        """
        rows = [(key, np.asarray(vector, dtype="<f4").tobytes()) for key, vector in vectors]
        with database_errors(self.path, SCHEMA), self._connection:
            self._connection.executemany(
                "INSERT INTO vectors (key, vector) VALUES (?,?) ON CONFLICT (key) DO NOTHING", rows
            )


@contextmanager
def open_vectors() -> Iterator[VectorStore]:
    """Open the store in the cache folder, and close it when the block ends.

    Raises:
        InputError: the file is no vector store, is damaged, or cannot be opened.
    """
    path = load_runtime().cache_folder / "vectors.sqlite"
    with open_database(path, SCHEMA) as connection:
        yield VectorStore(connection, path)


def stored_vectors(
    contents: Sequence[bytes], recipe: Mapping[str, object], encode: Callable[[Sequence[int]], Batches], name: str
) -> list[np.ndarray]:
    """Return the vector of each content, float32; equal contents are encoded once.

    Args:
        contents: what is encoded, as bytes.
        recipe: everything else that a vector depends on.
        encode: takes the positions of contents that no run has encoded, and yields their vectors batch by batch; a
            vector must depend on nothing but its content and the recipe.
        name: of the encoder, for messages.
    """
    start = hashlib.sha256(json.dumps([FORMAT, recipe], sort_keys=True).encode())
    keys = [_key(start, content) for content in contents]
    first = {key: position for position, key in reversed(list(enumerate(keys)))}
    with open_vectors() as store:
        vectors = store.get(list(first))
        missing = sorted(position for key, position in first.items() if key not in vectors)
        if vectors:
            print_progress(f"{name}: {len(vectors)} of {len(first)} vectors are in the cache")
        done = 0
        for positions, batch in encode(missing) if missing else ():
            rows = [(keys[position], vector) for position, vector in zip(positions, batch, strict=True)]
            store.add(rows)
            vectors.update((key, np.asarray(vector, dtype=np.float32)) for key, vector in rows)
            if done // PROGRESS != (done + len(rows)) // PROGRESS:
                print_progress(f"{name}: {done + len(rows)} of {len(missing)} vectors")
            done += len(rows)
    return [vectors[key] for key in keys]


def _key(start: hashlib._Hash, content: bytes) -> bytes:
    digest = start.copy()
    digest.update(content)
    return digest.digest()
