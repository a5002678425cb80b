"""`sidflow merge`: a fine-tuned MME-SID as a checkpoint of its own."""

from __future__ import annotations

from pathlib import Path

from sidflow.llm.merging import SETTINGS, TABLES, merge


def write(model: str, folder: Path) -> str:
    """Write it and return what is there.

    Raises:
        InputError: see `sidflow.llm.merging.merge`.
    """
    merge(model, folder)
    return f"{folder} has {model}'s language model with its adapter folded in, {TABLES} and {SETTINGS}."
