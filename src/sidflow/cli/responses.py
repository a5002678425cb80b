"""What `responses` prints: the size of the response store, and copies from one store to another."""

from __future__ import annotations

from pathlib import Path

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime, load_runtime
from sidflow.semantics.budget import cost_of
from sidflow.semantics.store import StoreSize, open_store


def size_lines() -> str:
    """Return the store's path and what it holds, in all and of each model: answers, tokens and cost."""
    runtime = load_runtime()
    with open_store(runtime.responses_path, read_only=True) as store:
        held, by_model = store.size(), store.sizes()
    lines = [f"{runtime.responses_path}: {_held(held, runtime)}"]
    return "\n".join(lines + [f"  {model}: {_held(size, runtime)}" for model, size in by_model.items()])


def _held(size: StoreSize, runtime: Runtime) -> str:
    text = f"{size.responses} answers, {size.input_tokens} input and {size.output_tokens} output tokens"
    cost = cost_of(runtime, size.input_tokens, size.output_tokens)
    return f"{text}, {cost:.2f} at the prices of runtime.yaml" if runtime.input_price or runtime.output_price else text


def export_line(file: Path) -> str:
    """Write all answers to `file`; return how many.

    Raises:
        InputError: `file` is the store itself, its folder is absent, the store is empty, or it cannot be written.
    """
    path = load_runtime().responses_path
    if file.resolve() == path:
        raise InputError(str(file), expected="another file", found="the store itself", remedy="name another file")
    if not file.resolve().parent.is_dir():
        raise InputError(str(file.parent), expected="a folder", found="none", remedy="make it, or correct the path")
    with open_store(path, read_only=True) as store:
        if not store.size().responses:
            raise InputError(
                str(path), expected="answers to export", found="none", remedy="run `dvc repro describe` first"
            )
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
