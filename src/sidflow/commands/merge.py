"""`sidflow merge`: a fine-tuned MME-SID as one checkpoint."""

from __future__ import annotations

from pathlib import Path

from sidflow.contracts.errors import InputError
from sidflow.contracts.params import load_params
from sidflow.llm.merging import SETTINGS, TABLES, merge


def write_merged(recommender: str, folder: Path) -> str:
    """Write the checkpoint to `folder` and return what it holds.

    Raises:
        InputError: `recommender` is not a fine-tuned one; else see `sidflow.llm.merging.merge`.
    """
    finetuned = list(load_params().get("finetune") or [])
    if recommender not in finetuned:
        raise InputError(
            "--recommender",
            expected=f"one of `finetune` in params.yaml: {', '.join(finetuned) or 'there is none'}",
            found=recommender,
            remedy="name one of them",
        )
    merge(recommender, folder)
    return f"{folder} has {recommender}'s language model with the adapter merged in, {TABLES} and {SETTINGS}."
