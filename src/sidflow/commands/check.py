"""Params as a whole: every section fits its model, and the sections fit one another.

What only artifacts tell is left to the stages: whether a modality has rows, or an earlier run is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidflow.commands.names import check_graph, check_names, check_recommenders
from sidflow.commands.sections import Resolved, resolve


def check(settings: Mapping[str, Any], where: str) -> Resolved:
    """Check the whole of params.yaml, and return its models.

    Raises:
        InputError: a section's name or value is wrong, a stage reads what no stage makes, or an out is made twice.
    """
    resolved = resolve(settings, where)
    check_graph(settings, where)
    check_recommenders(settings, where)
    check_names(resolved.sections, where)
    return resolved
