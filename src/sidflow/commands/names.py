"""Names in params that have to be made by something else there: embeddings, and whatever a stage reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from sidflow.commands import dag
from sidflow.contracts.errors import InputError

REMEDY = "edit params.yaml (or the preset), whose comments say what fits"
EMBEDDINGS = PurePosixPath("artifacts/embeddings")


def check_names(sections: Mapping[str, Any], where: str) -> None:
    """Check that what a section names in another one is there.

    Args:
        sections: by name, as `check_sections` returns them.
        where: the file they are from.

    Raises:
        InputError: it is not.
    """
    _check_embeddings(sections, where)


def _check_embeddings(sections: Mapping[str, Any], where: str) -> None:
    made = sections["embed"].encoders
    for place, file in _embeddings_read(sections):
        if file not in made:
            raise InputError(
                f"{where}:{place}",
                expected=f"a file of embed.encoders: {', '.join(made)}",
                found=file,
                remedy=REMEDY,
            )


def _embeddings_read(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the knob and the name of every embedding that a stage is told to read."""
    for name, modality in sections["modality"].items():
        source = PurePosixPath(modality.source)
        if source.parent == EMBEDDINGS:
            yield f"modality.{name}.source", source.stem
    for name, featured in sections["featured"].items():
        for feature in featured.features:
            yield f"featured.{name}.features", feature


def check_graph(settings: Mapping[str, Any], where: str) -> None:
    """Check that what stages read is made, and made once.

    Raises:
        InputError: it is not.
    """
    stages = dag.stages(settings)
    made: dict[str, str] = {}
    for stage in stages:
        for out in stage.outs:
            if out in made:
                twice = f"{out} by {made[out]} and {stage.name}"
                raise InputError(where, expected="every artifact made once", found=twice, remedy=REMEDY)
            made[out] = stage.name
    for stage in stages:
        for dep in stage.deps:
            if dep.startswith("artifacts/") and not _made(dep, made):
                raise InputError(
                    where,
                    expected=f"what stage {stage.name} reads to be made by another",
                    found=f"none that makes {dep}",
                    remedy=REMEDY,
                )


def _made(dep: str, outs: Mapping[str, str]) -> bool:
    """Tell whether `dep` is an out, lies in one, or is a folder of some."""
    return any(dep == out or dep.startswith(out + "/") or out.startswith(dep + "/") for out in outs)
