"""Which models the slots of params.yaml name, and whether they are here: a line each; which packages are absent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageMetadata
from pathlib import Path
from typing import NamedTuple

from sidflow.backbones.params import BackboneParams
from sidflow.cli.sections import Resolved
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.features.params import EmbedParams, ModelEncoder
from sidflow.models.files import FILE_PATTERNS, hub_cache
from sidflow.models.packages import find_package, weight_files
from sidflow.models.params import NOT_STATED, ModelParams
from sidflow.semantics.params import DescribeParams, TransformersParams

LOCK = Path("requirements-pretrained.lock")
REQUIREMENT = re.compile(r"^([\w.-]+==[\w.]+)", re.MULTILINE)
UNTRAINED = "no trained weights"
ABSENT = "not installed: `make pretrained`"


class SlotLine(NamedTuple):
    """One line: a slot, what stands in it, and whether that is here."""

    slot: str
    model: str
    state: str


def model_lines() -> list[str]:
    """Return the lines to print: the slots of params.yaml, then the packages of the lock.

    Raises:
        InputError: params.yaml is not here or not valid.
    """
    lines = [*_slots(), *_packages()]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return [f"{line.slot:<{widths[0]}}  {line.model:<{widths[1]}}  {line.state}".rstrip() for line in lines]


def _slots() -> Iterator[SlotLine]:
    writer = params.load_section("describe", DescribeParams).writer
    if isinstance(writer, TransformersParams):
        yield _line("describe.writer", "describe.writer.model", writer.model)
    else:
        model = getattr(writer, "model", "")
        state = "behind a server" if writer.backend == "openai" else "in the response store" if model else UNTRAINED
        yield SlotLine("describe.writer", f"{writer.backend} {model}".strip(), state)
    for name, encoder in params.load_section("embed", EmbedParams).encoders.items():
        slot = f"embed.encoders.{name}"
        if isinstance(encoder, ModelEncoder):
            yield _line(slot, f"{slot}.model", encoder.model)
        else:
            yield SlotLine(slot, encoder.kind, UNTRAINED)
    backbone = params.load_section("backbone", BackboneParams)
    if backbone.kind == "scratch":
        yield SlotLine("backbone", "scratch", "trained here")
    else:
        yield _line("backbone", "backbone", backbone.model)


def missing_packages_line(resolved: Resolved) -> str:
    """Return a warning that names the packages which params need and which are not installed; empty where none is."""
    missing: dict[str, list[str]] = {}  # slots by requirement
    for slot, model in _named_models(resolved):
        for requirement in model.packages:
            try:
                find_package(requirement, slot)
            except InputError:
                missing.setdefault(requirement, []).append(slot)
    if not missing:
        return ""
    locked = REQUIREMENT.findall(LOCK.read_text()) if LOCK.is_file() else []
    others = [requirement for requirement in missing if requirement not in locked]
    commands = ["`make pretrained`"] if len(others) < len(missing) else []
    commands += [f"`python -m pip install --no-deps {' '.join(others)}`"] if others else []
    listed = ", ".join(f"{requirement} (for {', '.join(slots)})" for requirement, slots in missing.items())
    return f"warning: not installed: {listed}. Remedy before `dvc repro`: {' and '.join(commands)}"


def _named_models(resolved: Resolved) -> Iterator[tuple[str, ModelParams]]:
    """Yield the models of kind package that a run reads, each with its slot."""
    for name, section in resolved.sections.items():
        if not isinstance(section, Params) or (name == "backbone" and not resolved.top.semantic_ids):
            continue
        if isinstance(section, BackboneParams):
            models = [] if section.kind == "scratch" else [("backbone", section.model)]
        else:
            models = list(_inside(section, name))
        yield from ((slot, model) for slot, model in models if model.kind == "package")


def _inside(value: object, place: str) -> Iterator[tuple[str, ModelParams]]:
    if isinstance(value, ModelParams):
        yield place.removesuffix(".model"), value
    elif isinstance(value, Params):
        for name, inner in value:
            yield from _inside(inner, f"{place}.{name}")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _inside(inner, f"{place}.{name}")


def _line(slot: str, section: str, model: ModelParams) -> SlotLine:
    name = {"path": model.path, "hub": f"{model.repo}@{model.commit[:7]}", "package": model.package_name}[model.kind]
    random = ", random weights" if model.weights == "random" else ""
    return SlotLine(slot, name, f"{_state(section, model)}, licence {model.licence or NOT_STATED}{random}")


def _state(section: str, model: ModelParams) -> str:
    if model.kind == "package":
        try:
            files = list(weight_files(model, section).values())
        except InputError as error:
            return ABSENT if error.found == "none" else f"{error.found}: `make pretrained`"
    else:
        hub_folder = Path(hub_cache()) / f"models--{model.repo.replace('/', '--')}" / "snapshots" / model.commit
        folder = Path(model.path).expanduser() if model.kind == "path" else hub_folder
        files = [path for pattern in FILE_PATTERNS for path in folder.glob(pattern)] if folder.is_dir() else []
        if not files:
            return "not here"
    return f"here, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB"


def _packages() -> Iterator[SlotLine]:
    for requirement in REQUIREMENT.findall(LOCK.read_text()) if LOCK.is_file() else []:
        try:
            package = find_package(requirement, "packages")
        except InputError:
            yield SlotLine("package", requirement, ABSENT)
            continue
        size = sum(path.stat().st_size for file in package.files or () if (path := Path(str(file.locate()))).is_file())
        licence = _licence(package.metadata)
        yield SlotLine("package", requirement, f"installed, {size / 1e6:.0f} MB, licence {licence or NOT_STATED}")


def _licence(metadata: PackageMetadata) -> str:
    """Return the licence that a package states, in the field or the classifier that it uses."""
    fields = metadata.json
    stated = str(fields.get("license_expression") or fields.get("license") or "").strip().splitlines()
    classifiers = [line for line in fields.get("classifier", []) if line.startswith("License ::")]
    return stated[0] if stated else classifiers[0].rpartition(" :: ")[2] if classifiers else ""
