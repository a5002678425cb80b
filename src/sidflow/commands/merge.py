"""`sidflow merge`: a fine-tuned MME-SID as a checkpoint of its own."""

from __future__ import annotations

from pathlib import Path

from sidflow.contracts import params
from sidflow.contracts.errors import InputError
from sidflow.llm.merging import SETTINGS, TABLES, merge


def write(model: str, folder: Path) -> str:
    """Write it and return what is there.

    Raises:
        InputError: `model` is none of those that are fine-tuned; else see `sidflow.llm.merging.merge`.
    """
    known = list(params.load_all().get("finetune") or [])
    if model not in known:
        raise InputError(
            "--model",
            expected=f"one of `finetune` in params.yaml: {', '.join(known) or 'there is none'}",
            found=model,
            remedy="name one of them",
        )
    merge(model, folder)
    return f"{folder} has {model}'s language model with its adapter folded in, {TABLES} and {SETTINGS}."
