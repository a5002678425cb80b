"""Imports faiss, which comes in two builds that exclude each other, so that neither is a plain dependency."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sidflow.core.errors import InputError


def import_faiss() -> Any:
    """Return the module `faiss`.

    Raises:
        InputError: neither faiss-cpu nor faiss-gpu is installed.
    """
    try:
        return import_module("faiss")
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise InputError(
            "faiss",
            expected="faiss-cpu or faiss-gpu",
            found="neither installed",
            remedy="`pip install faiss-cpu`, or faiss-gpu beside an NVIDIA driver",
        ) from None
