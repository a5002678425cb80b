"""The sections of params.yaml: which model each of them fits, and the whole file checked against them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from sidflow.core import params
from sidflow.core.errors import InputError, InvalidValue, closest_names
from sidflow.core.params import Params, Seed, Threads

REMEDY = "edit params.yaml (or the preset), whose comments say what fits"


class Section(NamedTuple):
    """One section, and where its model is; it is imported when it is needed, since some import torch."""

    source: str  # `module:model`; of a section with entries also `module:function`, (entry, values, where) -> params
    meaning: str = ""  # of a section with entries; that of the others is their model's docstring

    @property
    def has_entries(self) -> bool:
        """Whether the section holds entries whose names a preset chooses."""
        return bool(self.meaning)

    def imported(self) -> Any:
        """Return the model, or the function."""
        module, _, name = self.source.partition(":")
        return getattr(importlib.import_module(f"sidflow.{module}"), name)


class TopParams(Params):
    """The values that stand in no section."""

    preset: str = Field(min_length=1, description="the preset that this file was written for")
    seed: Seed = Field(default=42, description="of every model; the data has its own, ingest.seed")
    threads: Threads = Field(default=2, description="of every training; another count gives other bits")
    recommenders: list[str] = Field(
        min_length=1, description="what is trained with all that it needs; `sidflow recommenders` changes it"
    )
    sized_for: list[Annotated[int, Field(ge=1)]] = Field(
        default=[],
        max_length=2,
        description="core items and events that sizes were chosen for; [] = the preset chose them",
    )
    semantic_ids: list[Literal["shared"]] = Field(
        default=["shared"],
        max_length=1,
        description="[shared]: quantize, assign and backbone run | []: nothing needs semantic IDs",
    )

    @model_validator(mode="after")
    def _sizes_are_two(self) -> TopParams:
        if len(self.sized_for) == 1:
            raise InvalidValue("`sized_for` with two counts, items and events, or []", str(self.sized_for))
        return self


SECTIONS = {  # in the order of params.yaml
    "ingest": Section("catalog.params:IngestParams"),
    "split": Section("sequences.split:SplitParams"),
    "train_writer": Section("small_writer.params:TrainWriterParams"),
    "describe": Section("semantics.params:DescribeParams"),
    "embed": Section("features.params:EmbedParams"),
    "audit_embeddings": Section("features.audit:AuditEmbeddingsParams"),
    "train_counting": Section("counting.fit:counting_entry", "recommenders that count interactions"),
    "train_content": Section("counting.fit:content_entry", "the same beside the items' content"),
    "train_sequential": Section("sequential.params:sequential_entry", "neural models of users' sequences"),
    "train_multimodal": Section(
        "multimodal.fit:multimodal_entry", "sequential models whose item vectors get content too"
    ),
    "train_ranker": Section(
        "candidate_ranking.params:CandidateRankerParams",
        "small networks over counts and similarities",
    ),
    "modality": Section("features.modality:ModalityParams", "item vectors that semantic IDs are made of"),
    "quantize": Section("semantic_ids.params:QuantizeParams"),
    "assign": Section("semantic_ids.gate:AssignParams"),
    "backbone": Section("backbones.params:BackboneParams"),
    "finetune": Section("mme_sid.params:FinetuneParams", "MME-SID and its variants"),
    "generate": Section("generative.params:generative_entry", "recommenders that generate semantic IDs token by token"),
    "blend": Section("blending.params:BlendParams", "sums of two recommenders' scores"),
    "rank": Section("ranking.rank:RankParams"),
    "evaluate": Section("evaluation.params:EvaluateParams"),
    "compare": Section("evaluation.params:CompareParams"),
    "report": Section("report.data:ReportParams"),
}


class Resolved(NamedTuple):
    """The whole of params.yaml as models: every knob has its value."""

    top: TopParams
    sections: dict[str, Params | dict[str, Params]]  # by name; of a section with entries, by entry


def resolve(values: Mapping[str, Any], where: str) -> Resolved:
    """Return the models of all sections.

    Args:
        values: what params.yaml holds.
        where: the file that they are from.

    Raises:
        InputError: a section is absent or unknown, or one of its values does not fit.
    """
    names = [*TopParams.model_fields, *SECTIONS]
    for name in values:
        if name not in names:
            expected = closest_names(str(name), names)
            raise InputError(where, expected=expected, found=f"`{name}`", remedy="rename or remove it")
    top = params.validate_params(
        {name: values[name] for name in TopParams.model_fields if name in values}, TopParams, where
    )
    require_sections(values, where)
    require_mappings(values, where)
    return Resolved(top, resolve_sections({name: values.get(name) for name in SECTIONS}, where))


def resolve_sections(values: Mapping[str, Any], where: str) -> dict[str, Params | dict[str, Params]]:
    """Return the models of the sections in `values`, in their order.

    Raises:
        InputError: a value does not fit.
    """
    sections: dict[str, Params | dict[str, Params]] = {}
    for name, section in SECTIONS.items():
        if name not in values:
            continue
        if section.has_entries:
            entries = values[name] or {}
            sections[name] = {str(key): resolve_entry(name, str(key), entry, where) for key, entry in entries.items()}
        else:
            sections[name] = params.validate_params(values[name], section.imported(), f"{where}:{name}")
    return sections


def resolve_entry(section: str, entry: str, values: Any, where: str) -> Params:
    """Return the model of one entry of a section.

    Raises:
        InputError: the section has no such entry, or a value does not fit.
    """
    model, where = SECTIONS[section].imported(), f"{where}:{section}.{entry}"
    return params.validate_params(values, model, where) if isinstance(model, type) else model(entry, values, where)


def require_sections(values: Mapping[str, Any], where: str) -> None:
    """Check that no section is absent; those with entries may be.

    Raises:
        InputError: one is.
    """
    for name, section in SECTIONS.items():
        if not section.has_entries and name not in values:
            raise InputError(where, expected=f"a section `{name}`", found="none", remedy=f"add `{name}: {{}}`")


def require_mappings(values: Mapping[str, Any], where: str) -> None:
    """Check that every section and every entry of one is a mapping, or null.

    Raises:
        InputError: one is not.
    """
    for name in (name for name in SECTIONS if name in values):
        _require_mapping(values[name], f"{where}:{name}")
        for entry, content in (values[name] or {}).items() if SECTIONS[name].has_entries else ():
            _require_mapping(content, f"{where}:{name}.{entry}")


def _require_mapping(values: Any, where: str) -> None:
    if values is not None and not isinstance(values, Mapping):
        raise InputError(where, expected="a mapping of names to values", found=repr(values), remedy=REMEDY)
