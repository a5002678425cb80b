"""sidflow: raw interactions to multimodal semantic IDs and an LLM recommender, stage by stage.

`sidflow.Project` is the Python API; it is imported when it is first used, so that `import sidflow` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidflow.api import Project

__all__ = ["Project"]


def __getattr__(name: str) -> Any:
    """Import the API when it is first used."""
    if name == "Project":
        from sidflow.api import Project

        return Project
    raise AttributeError(f"module 'sidflow' has no attribute {name!r}")
