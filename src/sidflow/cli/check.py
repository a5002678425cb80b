"""Checks of params.yaml: every section against its model, and the sections against one another.

The stages check what needs artifacts: whether a modality has rows, and whether an earlier run exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sidflow.cli.dvc import dag_stages
from sidflow.cli.sections import REMEDY, Resolved, resolve
from sidflow.cli.selection import check_selection
from sidflow.core.errors import InputError
from sidflow.features.params import ENCODER_NAME

if TYPE_CHECKING:
    from sidflow.features.modality import ModalityParams
    from sidflow.mme_sid.params import FinetuneParams
    from sidflow.semantic_ids.gate import AssignParams
    from sidflow.semantic_ids.params import QuantizeParams


EMBEDDINGS = PurePosixPath("artifacts/embeddings")


def check_names(sections: Mapping[str, Any], where: str) -> None:
    """Check that every reference from one section to another resolves.

    Args:
        sections: by name, as `resolve` returns them.
        where: the file they are from.

    Raises:
        InputError: one does not.
    """
    _check_truth(sections, where)
    _check_modality_names(list(sections["modality"]), where)
    _check_embeddings(sections, where)
    _check_anchor(sections["quantize"], list(sections["modality"]), where)
    _check_frozen_ids(sections["assign"], sections["quantize"], where)
    _check_frozen_modalities(sections["modality"], sections["quantize"], where)
    for name, settings in sections["finetune"].items():
        _check_modalities(settings, list(sections["modality"]), f"{where}:finetune.{name}")
    for name, settings in sections["generate"].items():
        _check_ids(settings.ids.modalities, list(sections["modality"]), f"{where}:generate.{name}")
    for name, settings in sections["blend"].items():
        _check_blend(name, [settings.base, settings.added], f"{where}:blend.{name}")


def _check_modality_names(names: Sequence[str], where: str) -> None:
    unusable = [name for name in names if not ENCODER_NAME.fullmatch(name)]
    if unusable:
        raise InputError(
            f"{where}:modality",
            expected="names of letters, digits, `_` and inner `-`",
            found=f"`{unusable[0]}`",
            count=len(unusable),
            remedy="rename it",
        )


def _check_blend(name: str, parts: list[str], where: str) -> None:
    if name in parts or parts[0] == parts[1]:
        raise InputError(
            where,
            expected="`base` and `added` to be two other recommenders",
            found=" and ".join(parts),
            remedy="name two that other sections of params.yaml have",
        )


def _check_ids(names: Sequence[str], modalities: list[str], where: str) -> None:
    unknown = [name for name in names if name not in modalities]
    if unknown:
        raise InputError(
            f"{where}.ids.modalities",
            expected=f"names out of the section `modality`: {', '.join(modalities) or 'none'}",
            found=unknown[0],
            remedy="name these, or leave the recommender out: `generate: {NAME: null}` in the preset",
        )


def _check_truth(sections: Mapping[str, Any], where: str) -> None:
    ingest = sections["ingest"]
    has_truth = ingest.source == "synthetic" and ingest.synthetic.truth_positions > 0
    if "oracle" in sections["train_counting"] and not has_truth:
        raise InputError(
            f"{where}:train_counting.oracle",
            expected="a synthetic catalogue with ingest.synthetic.truth_positions >= 1, whose probabilities are known",
            found=f"source {ingest.source}" + (", truth_positions 0" if ingest.source == "synthetic" else ""),
            remedy="write `train_counting: {oracle: null}` in the preset, or remove `oracle` from params.yaml",
        )


def _check_embeddings(sections: Mapping[str, Any], where: str) -> None:
    embed = sections["embed"]
    for knob, file, of_units in _embeddings_read(sections):
        fitting = [name for name, encoder in embed.encoders.items() if encoder.of_units == of_units]
        if not knob.startswith(("train_content.", "train_ranker.")):
            fitting = [name for name in fitting if not embed.is_sparse(name)]
        if file not in fitting:
            what = "units of an item" if of_units else "one vector an item"
            raise InputError(
                f"{where}:{knob}",
                expected=f"a file of embed.encoders with {what}: {', '.join(fitting) or 'none'}",
                found=file,
                remedy=REMEDY,
            )


def _embeddings_read(sections: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield the knob and the name of every embedding that a stage reads, and whether it is one of units."""
    sources = [(f"modality.{name}.source", modality.source) for name, modality in sections["modality"].items()]
    sources += [
        (f"train_content.{name}.features", settings.features) for name, settings in sections["train_content"].items()
    ]
    for knob, source in sources:
        path = PurePosixPath(source)
        if path.parent == EMBEDDINGS:
            yield knob, path.name.removesuffix(".safetensors"), False
    for name, settings in sections["train_ranker"].items():
        for content in settings.content:
            yield f"train_ranker.{name}.content", content, False
    for name, settings in sections["train_multimodal"].items():
        for feature in getattr(settings, "features", ()):
            yield f"train_multimodal.{name}.features", feature, False
        for field in ("text_view", "image_view", "joint_view"):
            if (view := getattr(settings, field, None)) is not None:
                yield f"train_multimodal.{name}.{field}", view, False
        if (fine := getattr(settings, "fine", None)) is not None:
            yield f"train_multimodal.{name}.fine", fine, True
        for content in settings.hybrid.content if settings.hybrid else ():
            yield f"train_multimodal.{name}.hybrid.content", content, False


def _check_anchor(settings: QuantizeParams, modalities: list[str], where: str) -> None:
    aligns = settings.method == "mm-rq-vae" and settings.alignment != "none" and not settings.frozen_from
    if aligns and len(modalities) > 1 and settings.alignment_anchor not in modalities:
        raise InputError(
            f"{where}:quantize.alignment_anchor",
            expected=f"one of the modalities {', '.join(modalities)}",
            found=settings.alignment_anchor,
            remedy="name one of them, or set `alignment: none`: without its anchor nothing is aligned",
        )


def _check_frozen_ids(assign: AssignParams, quantize: QuantizeParams, where: str) -> None:
    if assign.frozen_ids_from and not quantize.frozen_from:
        raise InputError(
            f"{where}:assign.frozen_ids_from",
            expected="`quantize.frozen_from` beside it: IDs that stay are codes of an earlier quantizer",
            found="a quantizer that is trained anew",
            remedy=f"set `quantize.frozen_from: {assign.frozen_ids_from}/quantizer/quantizer.safetensors`, or neither",
        )


def _check_frozen_modalities(modalities: Mapping[str, ModalityParams], quantize: QuantizeParams, where: str) -> None:
    for name, settings in modalities.items() if quantize.frozen_from else ():
        if settings.is_fitted and settings.frozen_from is None:
            artifacts = PurePosixPath(quantize.frozen_from or "").parent.parent
            raise InputError(
                f"{where}:modality.{name}.frozen_from",
                expected="the modality that the quantizer of `quantize.frozen_from` was trained on",
                found="null: another mean and scale, in which its codes mean something else",
                remedy=f"set it to {artifacts / 'modalities' / name}.safetensors",
            )


def _check_modalities(settings: FinetuneParams, modalities: list[str], where: str) -> None:
    unknown = [name for name in settings.without if name not in modalities]
    remaining = [name for name in modalities if name not in settings.without]
    if unknown or not remaining:
        raise InputError(
            f"{where}.without",
            expected=f"names out of {', '.join(modalities)}, but not all of them",
            found=", ".join(unknown or settings.without),
            remedy="correct the name, or leave a modality in",
        )
    anchoring_modalities = settings.anchoring.modalities if settings.anchor in ("content", "both") else ()
    for name in anchoring_modalities:
        if name not in remaining:
            raise InputError(
                f"{where}.anchoring.modalities",
                expected=f"names out of {', '.join(remaining)}, which `without` leaves in",
                found=name,
                remedy="name another modality, or set `anchor: cooccurrence`",
            )


def check_graph(settings: Mapping[str, Any], where: str) -> None:
    """Check that a stage makes every artifact that is read, that no two make the same, and none reads its own.

    Raises:
        InputError: no stage makes an artifact that is read, two make the same, or a blend is made of itself.
    """
    stages = dag_stages(settings)
    producers: dict[str, str] = {}
    for stage in stages:
        for out in stage.outs:
            if out in producers:
                duplicate = f"{out} by {producers[out]} and {stage.name}"
                raise InputError(where, expected="every artifact made once", found=duplicate, remedy=REMEDY)
            producers[out] = stage.name
    for stage in stages:
        for dep in stage.deps:
            if dep.startswith("artifacts/") and not _is_produced(dep, producers):
                section, _, entry = stage.name.partition("@")
                raise InputError(
                    where,
                    expected=f"what stage {stage.name} reads to be made by another",
                    found=f"none that makes {dep}",
                    remedy=f"leave it out (`{section}: {{{entry}: null}}` in the preset), or add what makes that"
                    if entry
                    else REMEDY,
                )
    _check_cycles(settings.get("blend") or {}, where)


def _check_cycles(blends: Mapping[str, Any], where: str) -> None:
    """Check that no blend is made of itself by way of others; blends alone name recommenders to read."""
    for name in blends:
        reached: list[str] = [name]
        for other in reached:
            parts = [blends[other]["base"], blends[other]["added"]] if other in blends else []
            if name in parts and other != name:  # `_check_blend` tells of a blend that names itself
                raise InputError(
                    f"{where}:blend.{name}",
                    expected="`base` and `added` that are not made of it",
                    found=f"{other}, which reads {name}",
                    remedy="name another recommender in one of the two",
                )
            reached += [part for part in parts if part not in reached]


def _is_produced(dep: str, outs: Mapping[str, str]) -> bool:
    """Return whether `dep` is an out, lies in one, or is a folder of some."""
    return any(dep == out or dep.startswith(out + "/") or out.startswith(dep + "/") for out in outs)


def check(settings: Mapping[str, Any], where: str) -> Resolved:
    """Check the whole of params.yaml, and return its models.

    Raises:
        InputError: a section's name or value is wrong, a stage reads what no stage makes, or an out is made twice.
    """
    resolved = resolve(settings, where)
    check_graph(settings, where)
    check_selection(settings, where)
    check_names(resolved.sections, where)
    return resolved
