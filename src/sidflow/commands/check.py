"""Params as a whole: here every section fits its stage's model, in names.py the sections fit one another.

What only artifacts tell is left to the stages: whether a modality has rows, or an earlier run is there.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from sidflow.commands.names import REMEDY, check_graph, check_names, check_recommenders
from sidflow.contracts import params
from sidflow.contracts.complaints import closest_names
from sidflow.contracts.errors import InputError

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
NAMED = (  # sections whose entries have names of the preset's choice
    "train_counting",
    "train_content",
    "train_sequential",
    "train_multimodal",
    "modality",
    "finetune",
)


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
    sections = check_sections(settings, where)
    check_graph(settings, where)
    check_recommenders(settings, where)
    check_names(sections, where)


def check_sections(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check each section against the model of its stage, and return those: by section, or by section and name.

    Raises:
        InputError: a section is absent or unknown, or one of its values is.
    """
    known = [*Plain.model_fields, *MODELS, *NAMED]
    for name in settings:
        if name not in known:
            expected = closest_names(str(name), known)
            raise InputError(where, expected=expected, found=f"`{name}`", remedy="rename or remove it")
    params.check({name: settings[name] for name in Plain.model_fields if name in settings}, Plain, where)
    found: dict[str, Any] = {}
    for name, (module, model) in MODELS.items():
        if name not in settings:
            raise InputError(where, expected=f"a section `{name}`", found="none", remedy=f"add `{name}: {{}}`")
        found[name] = params.check(settings[name], getattr(importlib.import_module(module), model), f"{where}:{name}")
    for name in NAMED:
        found[name] = {}
        _check_mapping(settings.get(name), f"{where}:{name}")
        for key, content in (settings.get(name) or {}).items():
            _check_mapping(content, f"{where}:{name}.{key}")
            found[name][str(key)] = check_named(name, str(key), content, f"{where}:{name}.{key}")
    return found


def _check_mapping(content: Any, where: str) -> None:
    if content is not None and not isinstance(content, Mapping):
        raise InputError(where, expected="a mapping of names to values", found=repr(content), remedy=REMEDY)


def check_named(section: str, key: str, content: Any, where: str) -> params.Params:
    """Check the entry `key` of a section by names, and return it as its stage's model.

    Raises:
        InputError: the stage has no such entry, or one of its values does not fit.
    """
    if section == "train_sequential":
        return importlib.import_module("sidflow.recommenders.neural.params").from_content(content, key, where)
    if section == "train_multimodal":
        return importlib.import_module("sidflow.recommenders.neural.multimodal").multimodal_params(content, where)[0]
    if section == "modality":
        return params.check(content, importlib.import_module("sidflow.embedding.modality").ModalityParams, where)
    if section == "finetune":
        return params.check(content, importlib.import_module("sidflow.llm.params").FinetuneParams, where)
    fitting = importlib.import_module("sidflow.recommenders.counting.fitting")
    return params.check(content, fitting.params_model(section, key), where)
