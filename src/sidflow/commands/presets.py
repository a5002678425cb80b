"""Presets: what differs from the models' defaults, or from the preset that is extended.

A preset is a patch: mappings merge, null removes an entry, and any other value replaces. `extends: NAME` lays it over
another preset instead of the defaults.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sidflow.commands.dag import recommenders_of
from sidflow.commands.params_file import params_text
from sidflow.commands.sections import SECTIONS, Resolved, resolve
from sidflow.contracts import params, yamls
from sidflow.contracts.errors import InputError

FOLDER = Path("presets")
_NOT_PRESETS = frozenset({"grammar"})  # files of the folder that are data


class Layer(NamedTuple):
    """What one preset says by itself."""

    preset: str
    values: dict[str, Any]


def names(folder: Path = FOLDER) -> list[str]:
    """Return the presets that exist, `embedded` first."""
    stems = sorted(path.stem for path in folder.glob("*.yaml") if path.stem not in _NOT_PRESETS)
    return sorted(stems, key=lambda name: name != "embedded")


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Return a preset's file.

    Raises:
        InputError: there is no such preset.
    """
    if name not in names(folder):
        close = difflib.get_close_matches(name, names(folder), n=1, cutoff=0.5)
        raise InputError(
            f"preset {name}",
            expected=f"one of {', '.join(names(folder)) or 'none'}",
            found="no such preset",
            remedy=f"did you mean `{close[0]}`?" if close else "`sidflow preset list` names them",
        )
    return folder / f"{name}.yaml"


def purpose(name: str, folder: Path = FOLDER) -> str:
    """Return the first sentence of the preset's first comment: what it is for."""
    block = re.match(r"(?:#[^\n]*\n)*", path_of(name, folder).read_text())
    text = " ".join(line.lstrip("# ").rstrip() for line in (block.group() if block else "").splitlines())
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]


def layers(name: str) -> list[Layer]:
    """Return the preset and those that it extends, the innermost first.

    Raises:
        InputError: a preset does not exist, extends itself, or cannot be read.
    """
    chain: list[Layer] = []
    following: str | None = name
    while following is not None:
        values = yamls.read_yaml_mapping(path_of(following))
        chain.insert(0, Layer(following, {key: value for key, value in values.items() if key != "extends"}))
        following = values.get("extends")
        if following in [layer.preset for layer in chain]:
            raise InputError(
                str(path_of(name)),
                expected="presets that extend one another without a circle",
                found=f"`{following}` twice",
                remedy="remove one `extends`",
            )
    return chain


def compose(name: str, data: Path | None = None, seed: int | None = None) -> Resolved:
    """Return the params of a preset, every knob with its value.

    Args:
        name: the preset.
        data: file or folder of the raw data, for a preset that doesn't bring its own; without it
            `$SIDFLOW_DATA/<name>` where that exists.
        seed: of every model; None takes the preset's.

    Raises:
        InputError: no such preset, no data where it needs some, data that is not there, or a value that does not fit.
    """
    chain = layers(name)
    values = preset_values(chain)
    if seed is not None:
        values["seed"] = seed
    if values["ingest"].get("source") == "synthetic":
        if data is not None:
            raise InputError(
                f"preset {name}",
                expected="no --data: its catalogue is generated",
                found="--data",
                remedy="leave it out",
            )
    elif data is not None or not names_its_data(chain):
        values["ingest"]["path"] = str(_data_folder(name, data))
    return resolve(values, f"preset {name}")


def preset_values(chain: Sequence[Layer]) -> dict[str, Any]:
    """Return the defaults with a preset's layers over them; the last one is the preset."""
    values = default_values()
    for layer in chain:
        merge(values, layer.values)
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        values[section] = {key: entry for key, entry in (values.get(section) or {}).items() if entry is not None}
    return {**values, "preset": chain[-1].preset, "recommenders": recommenders_of(values)}


def names_its_data(chain: Sequence[Layer]) -> bool:
    """Return whether the layers say where the data of their source lies."""
    path = None
    for ingest in (layer.values.get("ingest") or {} for layer in chain):
        path = ingest.get("path", None if "source" in ingest else path)
    return path is not None


def default_values() -> dict[str, Any]:
    """Return the models' defaults as plain values: of all sections but those with entries, which a preset chooses."""
    models = {name: section.imported() for name, section in SECTIONS.items() if not section.has_entries}
    return {name: model().model_dump(mode="json") for name, model in models.items()} | {
        name: {} for name, section in SECTIONS.items() if section.has_entries
    }


def merge(base: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Apply a patch in place: mappings merge, null removes a mapping, and any other value replaces."""
    for key, value in patch.items():
        if value is None and isinstance(base.get(key), dict):
            del base[key]
        elif isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            merge(base[key], value)
        else:
            base[key] = value


def listing() -> list[str]:
    """Return a line per preset: a star for the one in params.yaml, its name, what it is for."""
    current = params.load_params().get("preset") if params.PARAMS_PATH.is_file() else None
    width = max((len(name) for name in names()), default=0)
    return [f"{'*' if name == current else ' '} {name:<{width}}  {purpose(name)}".rstrip() for name in names()]


def preset_text(name: str, data: Path | None = None, seed: int | None = None) -> str:
    """Return the text of params.yaml under a preset; arguments and errors as of `compose`."""
    return params_text(compose(name, data, seed))


def _data_folder(name: str, data: Path | None) -> Path:
    shared = os.environ.get("SIDFLOW_DATA")
    location = data if data is not None else Path(shared) / name if shared else None
    if location is None:
        raise InputError(
            f"preset {name}",
            expected="a place of the raw data",
            found="neither --data nor SIDFLOW_DATA",
            remedy=f"`sidflow preset apply {name} --data DIR`",
        )
    if not location.expanduser().exists():
        raise InputError(
            f"preset {name}",
            expected="raw data that exists",
            found=f"nothing at {location}",
            remedy=f"`sidflow preset apply {name} --data DIR` with the folder that holds it",
        )
    return Path(os.path.normpath(location.expanduser().absolute()))  # a link stays: teammates may share its name
