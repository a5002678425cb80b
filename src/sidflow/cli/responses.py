"""What `responses` prints: the size of the response store, and copies from one store to another."""

from __future__ import annotations

from pathlib import Path

from sidflow.core.errors import InputError
from sidflow.core.runtime import load_runtime
from sidflow.semantics.store import open_store


def size_line() -> str:
    """Return the store's path, and how many answers and tokens it holds."""
    path = load_runtime().responses_path
    with open_store(path, read_only=True) as store:
        held = store.size()
    return f"{path}: {held.responses} answers, {held.input_tokens} input and {held.output_tokens} output tokens"


def export_line(file: Path) -> str:
    """Write all answers to `file`; return how many.

    Raises:
        InputError: `file` is the store itself, or cannot be written.
    """
    path = load_runtime().responses_path
    if file.resolve() == path:
        raise InputError(str(file), expected="another file", found="the store itself", remedy="name another file")
    with open_store(path, read_only=True) as store:
        return f"{store.export(file)} answers written to {file}"


def merge_line(file: Path) -> str:
    """Add the answers of the store `file` that are missing; return how many.

    Raises:
        InputError: there is no such store.
    """
    if not file.is_file():
        raise InputError(str(file), expected="a response store", found="no such file", remedy="correct the path")
    with open_store(load_runtime().responses_path) as store:
        return f"{store.merge(file)} answers added to {store.path}"
