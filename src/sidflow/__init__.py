"""sidflow: raw interactions to multimodal semantic IDs and an LLM recommender, stage by stage.

`Project` is the Python API and `InputError` what it raises. Both are imported when they are first used, so that
`import sidflow` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidflow.api import InputError, Project

__all__ = ["InputError", "Project"]


def __getattr__(name: str) -> Any:
    """Import a part of the API when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'sidflow' has no attribute {name!r}")
    return getattr(import_module("sidflow.api"), name)
