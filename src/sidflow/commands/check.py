"""Params as a whole: every section fits its stage's model, and every name in one fits what the others make."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field

from sidflow.commands import dag
from sidflow.contracts import complaints, params
from sidflow.contracts.errors import InputError

_REMEDY = "edit params.yaml (or the preset), whose comments say what fits"

MODELS = {  # section: module and model
    "ingest": ("sidflow.catalog.params", "IngestParams"),
    "split": ("sidflow.splits.params", "SplitParams"),
    "describe": ("sidflow.semantics.params", "DescribeParams"),
    "embed": ("sidflow.embedding.params", "EmbedParams"),
    "quantize": ("sidflow.quantize.params", "QuantizeParams"),
    "assign": ("sidflow.quantize.gate", "AssignParams"),
    "backbone": ("sidflow.llm.params", "BackboneParams"),
    "rank": ("sidflow.ranking.params", "RankParams"),
    "evaluate": ("sidflow.evaluation.params", "EvaluateParams"),
    "compare": ("sidflow.evaluation.params", "CompareParams"),
    "report": ("sidflow.report.params", "ReportParams"),
}
NAMED = (
    "count",
    "informed",
    "train",
    "modality",
    "finetune",
    "enhance",
    "featured",
)  # sections by names of the preset's choice


class Plain(params.Params):
    """The values that stand in no section."""

    preset: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**32)
    threads: int = Field(ge=1)
    recommenders: list[str] = Field(min_length=1)


def check(settings: Mapping[str, Any], where: str) -> None:
    """Check the whole of params.yaml.

    Raises:
        InputError: a section's name or value is wrong, a stage reads what no stage makes, or an out is made twice.
    """
    check_sections(settings, where)
    check_graph(settings, where)


def check_sections(settings: Mapping[str, Any], where: str) -> None:
    """Check each section against the model of its stage.

    Raises:
        InputError: a section is absent or unknown, or one of its values is.
    """
    known = [*Plain.model_fields, *MODELS, *NAMED]
    for name in settings:
        if name not in known:
            expected = complaints.nearest(str(name), known)
            raise InputError(where, expected=expected, found=f"`{name}`", remedy="rename or remove it")
    params.check({name: settings[name] for name in Plain.model_fields if name in settings}, Plain, where)
    for name, (module, model) in MODELS.items():
        if name not in settings:
            raise InputError(where, expected=f"a section `{name}`", found="none", remedy=f"add `{name}: {{}}`")
        params.check(settings[name], getattr(importlib.import_module(module), model), f"{where}:{name}")
    for name in NAMED:
        _check_mapping(settings.get(name), f"{where}:{name}")
        for key, content in (settings.get(name) or {}).items():
            _check_mapping(content, f"{where}:{name}.{key}")
            _check_named(name, str(key), content, f"{where}:{name}.{key}")
    _check_encoders(settings, where)


def _check_mapping(content: Any, where: str) -> None:
    if content is not None and not isinstance(content, Mapping):
        raise InputError(where, expected="a mapping of names to values", found=repr(content), remedy=_REMEDY)


def _check_encoders(settings: Mapping[str, Any], where: str) -> None:
    made = importlib.import_module("sidflow.embedding.params").EmbedParams.model_validate(settings["embed"] or {})
    for section, name, file in _embeddings_read(settings):
        if file not in made.encoders:
            raise InputError(
                f"{where}:{section}.{name}",
                expected=f"a file of embed.encoders: {', '.join(made.encoders)}",
                found=file,
                remedy=_REMEDY,
            )


def _embeddings_read(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield section, name in it with the knob, and the name of every embedding that a stage is told to read."""
    for name, body in (settings.get("modality") or {}).items():
        source = PurePosixPath(str((body or {}).get("source", "")))
        if source.parent.as_posix() == "artifacts/embeddings":
            yield "modality", f"{name}.source", source.stem
    for name, body in (settings.get("featured") or {}).items():
        for feature in (body or {}).get("features", ()):
            yield "featured", f"{name}.features", feature


def _check_named(section: str, key: str, content: Any, where: str) -> None:
    if section == "train":
        importlib.import_module("sidflow.recommenders.neural.params").from_content(content, key, where)
    elif section == "modality":
        params.check(content, importlib.import_module("sidflow.embedding.modality").ModalityParams, where)
    elif section == "finetune":
        params.check(content, importlib.import_module("sidflow.llm.params").FinetuneParams, where)
    elif section == "enhance":
        neural = importlib.import_module("sidflow.recommenders.neural.params")
        settings = params.check(content, neural.DmesrParams, where)
        neural.from_content({**settings.model, "architecture": settings.base}, settings.base, f"{where}.model")
    elif section == "featured":
        features = importlib.import_module("sidflow.recommenders.neural.features")
        features.with_base(params.check(content, features.FeaturesParams, where), where)
    else:
        fitting = importlib.import_module("sidflow.recommenders.counting.fitting")
        names = {**fitting.INFORMED} if section == "informed" else {k: m.params for k, m in fitting.COUNTED.items()}
        params.check(content, fitting.known(key, names, section), where)


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
                raise InputError(where, expected="every artifact made once", found=twice, remedy=_REMEDY)
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
