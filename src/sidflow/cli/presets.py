"""Presets: found, laid over one another, and composed to the whole of params.yaml.

A preset is a patch: mappings merge, null removes an entry, and any other value replaces. `extends: NAME` lays it over
another preset instead of the defaults, `extends: [NAME, ...]` over several, the later ones over the earlier. What
several presets share is a part, a file of presets/parts/. `sizes: preset` says that a preset brings its own loss,
widths and epochs; without it those of data are chosen by their size.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from sidflow.cli.dvc import recommenders_of
from sidflow.cli.params_file import params_text
from sidflow.cli.sections import (
    SECTIONS,
    Resolved,
    TopParams,
    require_mappings,
    require_sections,
    resolve,
    resolve_sections,
)
from sidflow.cli.selection import select
from sidflow.cli.sizes import Counts, sizes_patch
from sidflow.core import params
from sidflow.core.errors import InputError, closest_names
from sidflow.core.params import read_yaml_mapping

FOLDER = Path("presets")
BASE = "embedded"  # sizes that the data chose lie over it
SIZES = ("data", "preset")
DATA_SIZES = "(size of the data)"  # the layer of what was chosen
MODEL_NAMES = {"kind", "path", "repo", "package"}  # what tells one model from another
_NOT_PRESETS = frozenset({"grammar"})  # files of the folder that are data


class Layer(NamedTuple):
    """The values that one preset file sets."""

    preset: str
    values: dict[str, Any]
    sizes: str | None = None  # data: chosen by the size of the data; preset: the preset's own; None: not said


# The model that writes the views of the synthetic catalogue, as presets/embedded.yaml names it.
SHOP_WRITER = {"kind": "path", "path": "models/shop-writer", "licence": "Apache-2.0"}


def names(folder: Path = FOLDER) -> list[str]:
    """Return the presets that exist, `embedded` first."""
    stems = sorted(path.stem for path in folder.glob("*.yaml") if path.stem not in _NOT_PRESETS)
    return sorted(stems, key=lambda name: name != "embedded")


def parts(folder: Path = FOLDER) -> list[str]:
    """Return the names of the parts, `parts/NAME`: what presets extend and what is no preset by itself."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("parts/*.yaml"))


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the file of a preset or a part.

    Raises:
        InputError: there is no such preset.
    """
    existing = names(folder) + parts(folder)
    if name not in existing:
        close = difflib.get_close_matches(name, existing, n=1, cutoff=0.5)
        raise InputError(
            f"preset {name}",
            expected=closest_names(name, existing),
            found="no such preset",
            remedy=f"did you mean `{close[0]}`?" if close else "`sidflow preset list` names them",
        )
    return folder / f"{name}.yaml"


def purpose(name: str, folder: Path = FOLDER) -> str:
    """Return the first sentence of the preset's first comment: what it is for."""
    comment = re.match(r"(?:#[^\n]*\n)*", path_of(name, folder).read_text())
    text = " ".join(line.lstrip("# ").rstrip() for line in (comment.group() if comment else "").splitlines())
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]


def layers(name: str) -> list[Layer]:
    """Return the preset and those that it extends, each once, the innermost first.

    Raises:
        InputError: a preset does not exist, extends itself, is a part, or cannot be read.
    """
    if name in parts():
        raise InputError(
            f"preset {name}",
            expected="a preset",
            found="a part of presets",
            remedy=f"a preset that has `{name}` under `extends`; `sidflow preset list` names the presets",
        )
    return _layers(name, ())


def _layers(name: str, extending: tuple[str, ...]) -> list[Layer]:
    """Return the layers of a preset that those of `extending` extend, the outermost first."""
    if name in extending:
        raise InputError(
            str(path_of(extending[-1])),
            expected="presets that extend one another without a circle",
            found=f"`{name}` twice",
            remedy="remove one `extends`",
        )
    path = path_of(name)
    values = read_yaml_mapping(path)
    sizes = values.pop("sizes", None)
    if sizes not in (None, *SIZES):
        raise InputError(
            f"{path}:sizes",
            expected="data (loss, widths and epochs by the size of the data) or preset (its own)",
            found=repr(sizes),
            remedy="write one of the two, or leave `sizes` out",
        )
    require_mappings(values, str(path))
    chain: list[Layer] = []
    for extended in _extended(values.pop("extends", None), path):
        chain += [layer for layer in _layers(extended, (*extending, name)) if layer not in chain]
    return [*chain, Layer(name, values, sizes)]


def _extended(value: Any, path: Path) -> list[str]:
    """Return the names under `extends`: none, one, or a list of them."""
    listed = [] if value is None else value if isinstance(value, list) else [value]
    for one in listed:
        if not isinstance(one, str):
            raise InputError(
                f"{path}:extends",
                expected="the name of a preset, or a list of names",
                found=repr(value),
                remedy="`sidflow preset list` names them",
            )
    return listed


def compose(name: str, data: Path | None = None, seed: int | None = None, counts: Counts | None = None) -> Resolved:
    """Return the params of a preset, every knob with its value.

    Args:
        name: the preset.
        data: file or folder of the raw data, for a preset that doesn't bring its own; without it
            `$SIDFLOW_DATA/<name>` where that exists.
        seed: of every model; None takes the preset's.
        counts: of the data, for a preset that leaves the choice of sizes to them; None takes those of the presets.

    Raises:
        InputError: no such preset, no data where it needs some, data that is not there, or a value that does not fit.
    """
    chain = layers(name)
    values = preset_values(chain, counts)
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
    return resolve_preset(values, chain)


def preset_values(chain: Sequence[Layer], counts: Counts | None = None) -> dict[str, Any]:
    """Return the defaults with a preset's layers over them; the last one is the preset.

    With `counts` the sizes that fit them lie over `embedded`, and below the other layers.

    Raises:
        InputError: a value does not fit; those of `ingest` are not checked.
    """
    values = default_values()
    for layer in with_sizes(chain, counts):
        merge(values, layer.values)
    where = f"preset {chain[-1].preset}"
    require_sections(values, where)
    described = values.get("describe") or {}
    writer = described.get("writer")
    model = writer.get("model") if isinstance(writer, Mapping) else None
    if model == SHOP_WRITER and (values.get("ingest") or {}).get("source") != "synthetic":
        del described["writer"]  # it reads drawings of the synthetic catalogue alone; rules write instead
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        values[section] = {key: entry for key, entry in (values.get(section) or {}).items() if entry is not None}
    resolve_sections({name: values[name] for name in SECTIONS if name != "ingest"}, where)  # its data may come later
    return {"recommenders": recommenders_of(values), **values, "preset": chain[-1].preset}


def resolve_preset(values: Mapping[str, Any], chain: Sequence[Layer]) -> Resolved:
    """Return the models of a preset's values: of all entries, or where a layer lists `recommenders` of those it needs.

    Raises:
        InputError: a value does not fit, or a listed recommender has no entry.
    """
    where = f"preset {chain[-1].preset}"
    resolved = resolve(values, where)
    if any("recommenders" in layer.values for layer in chain):
        return resolve(select(plain_values(resolved), resolved.top.recommenders, where), where)
    return resolved


def plain_values(resolved: Resolved) -> dict[str, Any]:
    """Return params as plain values, as params.yaml holds them."""
    return YAML(typ="safe").load(params_text(resolved))


def sized_by_data(chain: Sequence[Layer]) -> bool:
    """Return whether the choice of loss, widths and epochs is left to the size of the data."""
    choices = [layer.sizes for layer in chain if layer.sizes is not None]
    return not choices or choices[-1] == "data"


def with_sizes(chain: Sequence[Layer], counts: Counts | None) -> list[Layer]:
    """Return the layers, with the sizes that fit `counts` over `embedded` where there are counts."""
    if counts is None:
        return list(chain)
    base = 1 if chain[0].preset == BASE else 0
    patch = sizes_patch(preset_values(chain), counts) | {"sized_for": list(counts)}
    return [*chain[:base], Layer(DATA_SIZES, patch), *chain[base:]]


def names_its_data(chain: Sequence[Layer]) -> bool:
    """Return whether the layers set the path of their source's data."""
    path = None
    for ingest in (layer.values.get("ingest") or {} for layer in chain):
        path = ingest.get("path", None if "source" in ingest else path)
    return path is not None


def default_values() -> dict[str, Any]:
    """Return the models' defaults as plain values: of all sections but those with entries, which a preset chooses."""
    models = {name: section.imported() for name, section in SECTIONS.items() if not section.has_entries}
    return (
        {name: list(TopParams.model_fields[name].default) for name in ("sized_for", "semantic_ids")}
        | {name: model().model_dump(mode="json") for name, model in models.items()}
        | {name: {} for name, section in SECTIONS.items() if section.has_entries}
    )


def merge(base: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Apply a patch in place: mappings merge, null removes a mapping, and any other value replaces.

    A mapping that names another `backend` replaces as well: the knobs of the one do not fit the other. One that names
    another model does not keep the licence of the one before.
    """
    for key, value in patch.items():
        if value is None and isinstance(base.get(key), dict):
            del base[key]
        elif isinstance(value, Mapping):
            if not isinstance(base.get(key), dict) or base[key].get("backend") != value.get(
                "backend", base[key].get("backend")
            ):
                base[key] = {}
            if any(base[key].get(name, value[name]) != value[name] for name in MODEL_NAMES & value.keys()):
                base[key].pop("licence", None)
            merge(base[key], value)
        else:
            base[key] = value


def listing() -> list[str]:
    """Return a line per preset: a star for the one in params.yaml, its name, what it is for."""
    current = params.load_params().get("preset") if params.PARAMS_PATH.is_file() else None
    width = max((len(name) for name in names()), default=0)
    return [f"{'*' if name == current else ' '} {name:<{width}}  {purpose(name)}".rstrip() for name in names()]


def preset_text(name: str, data: Path | None = None, seed: int | None = None, counts: Counts | None = None) -> str:
    """Return the text of params.yaml under a preset; arguments and errors as of `compose`."""
    return params_text(compose(name, data, seed, counts))


def _data_folder(name: str, data: Path | None) -> Path:
    root = os.environ.get("SIDFLOW_DATA")
    location = data if data is not None else Path(root) / name if root else None
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
