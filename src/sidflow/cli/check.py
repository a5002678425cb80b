"""Checks of params.yaml: every section against its model, and the sections against one another.

What only artifacts tell is left to the stages: whether a modality has rows, or an earlier run is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sidflow.cli.dvc import dag_stages, recommenders_of
from sidflow.cli.sections import REMEDY, Resolved, resolve
from sidflow.core.errors import InputError
from sidflow.features.params import TfidfSvdUnits

if TYPE_CHECKING:
    from sidflow.mme_sid.params import FinetuneParams
    from sidflow.semantic_ids.gate import AssignParams
    from sidflow.semantic_ids.params import QuantizeParams


EMBEDDINGS = PurePosixPath("artifacts/embeddings")


def check_names(sections: Mapping[str, Any], where: str) -> None:
    """Check that what a section needs of another one is there.

    Args:
        sections: by name, as `resolve` returns them.
        where: the file they are from.

    Raises:
        InputError: it is not.
    """
    _check_embeddings(sections, where)
    _check_anchor(sections["quantize"], list(sections["modality"]), where)
    _check_frozen_ids(sections["assign"], sections["quantize"], where)
    for name, settings in sections["finetune"].items():
        _check_modalities(settings, list(sections["modality"]), f"{where}:finetune.{name}")


def _check_embeddings(sections: Mapping[str, Any], where: str) -> None:
    encoders = sections["embed"].encoders
    for place, file, of_units in _embeddings_read(sections):
        fitting = [name for name, encoder in encoders.items() if isinstance(encoder, TfidfSvdUnits) == of_units]
        if file not in fitting:
            what = "units of an item" if of_units else "one vector an item"
            raise InputError(
                f"{where}:{place}",
                expected=f"a file of embed.encoders with {what}: {', '.join(fitting) or 'none'}",
                found=file,
                remedy=REMEDY,
            )


def _embeddings_read(sections: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield the knob and the name of every embedding that a stage reads, and whether it is one of units."""
    sources = [(f"modality.{name}.source", modality.source) for name, modality in sections["modality"].items()]
    sources += [(f"train_content.{name}.features", one.features) for name, one in sections["train_content"].items()]
    for place, source in sources:
        path = PurePosixPath(source)
        if path.parent == EMBEDDINGS:
            yield place, path.name.removesuffix(".safetensors"), False
    for name, settings in sections["train_multimodal"].items():
        for feature in getattr(settings, "features", ()):
            yield f"train_multimodal.{name}.features", feature, False
        for knob in ("text_view", "image_view", "joint_view"):
            if (view := getattr(settings, knob, None)) is not None:
                yield f"train_multimodal.{name}.{knob}", view, False
        if hasattr(settings, "fine"):
            yield f"train_multimodal.{name}.fine", settings.fine, True


def _check_anchor(settings: QuantizeParams, made: list[str], where: str) -> None:
    aligns = settings.method == "mm-rq-vae" and settings.alignment != "none" and not settings.frozen_from
    if aligns and len(made) > 1 and settings.alignment_anchor not in made:
        raise InputError(
            f"{where}:quantize.alignment_anchor",
            expected=f"one of the modalities {', '.join(made)}",
            found=settings.alignment_anchor,
            remedy="name one of them, or set `alignment: none`: without its anchor nothing is aligned",
        )


def _check_frozen_ids(assign: AssignParams, quantize: QuantizeParams, where: str) -> None:
    if assign.known_from and not quantize.frozen_from:
        raise InputError(
            f"{where}:assign.known_from",
            expected="`quantize.frozen_from` beside it: IDs that stay are codes of an earlier quantizer",
            found="a quantizer that is trained anew",
            remedy=f"set `quantize.frozen_from: {assign.known_from}/quantizer/quantizer.safetensors`, or neither",
        )


def _check_modalities(settings: FinetuneParams, made: list[str], where: str) -> None:
    unknown = [name for name in settings.without if name not in made]
    left = [name for name in made if name not in settings.without]
    if unknown or not left:
        raise InputError(
            f"{where}.without",
            expected=f"names out of {', '.join(made)}, but not all of them",
            found=", ".join(unknown or settings.without),
            remedy="correct the name, or leave a modality in",
        )
    read = settings.anchoring.modalities if settings.anchor in ("content", "both") else ()
    for name in read:
        if name not in left:
            raise InputError(
                f"{where}.anchoring.modalities",
                expected=f"names out of {', '.join(left)}, which `without` leaves in",
                found=name,
                remedy="name another modality, or set `anchor: cooccurrence`",
            )


def check_recommenders(settings: Mapping[str, Any], where: str) -> None:
    """Check that the list `recommenders` names just what the training sections make, in that order.

    Raises:
        InputError: it does not.
    """
    expected, listed = recommenders_of(settings), list(settings["recommenders"])
    if listed != expected:
        differing = [name for name in (*expected, *listed) if (name in expected) != (name in listed)]
        raise InputError(
            f"{where}:recommenders",
            expected=f"what the training sections name: [{', '.join(expected)}]",
            found=f"[{', '.join(map(str, listed))}]" if len(listed) < 5 else "another list",
            example=differing[0] if differing else None,
            remedy="write that list; `sidflow preset apply` does",
        )


def check_graph(settings: Mapping[str, Any], where: str) -> None:
    """Check that what stages read is made, and made once.

    Raises:
        InputError: it is not.
    """
    stages = dag_stages(settings)
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
    """Return whether `dep` is an out, lies in one, or is a folder of some."""
    return any(dep == out or dep.startswith(out + "/") or out.startswith(dep + "/") for out in outs)


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
