"""Params as a whole: every section fits its stage's model, and every name in one fits what the others make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidflow.commands import dag
from sidflow.contracts.errors import InputError

_REMEDY = "edit params.yaml (or the preset), whose comments say what fits"


def check(settings: Mapping[str, Any], where: str) -> None:
    """Check the whole of params.yaml.

    Raises:
        InputError: a section's name or value is wrong, a stage reads what no stage makes, or an out is made twice.
    """
    stages = dag.stages(settings)
    made: dict[str, str] = {}
    for stage in stages:
        for out in stage.outs:
            if out in made:
                raise InputError(
                    where,
                    expected="every artifact made once",
                    found=f"{out} by {made[out]} and {stage.name}",
                    remedy=_REMEDY,
                )
            made[out] = stage.name
    for stage in stages:
        for dep in stage.deps:
            if dep.startswith("artifacts/") and not _made(dep, made):
                raise InputError(
                    where,
                    expected=f"what stage {stage.name} reads to be made by another",
                    found=f"none that makes {dep}",
                    remedy=_REMEDY,
                )


def _made(dep: str, outs: Mapping[str, str]) -> bool:
    """Tell whether `dep` is an out, lies in one, or is a folder of some."""
    return any(dep == out or dep.startswith(out + "/") or out.startswith(dep + "/") for out in outs)
