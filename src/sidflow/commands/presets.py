"""Presets: the full params file `embedded`, and overlays of it as JSON merge patches (RFC 7396: null deletes)."""

from __future__ import annotations

import difflib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from sidflow.commands import dag
from sidflow.contracts import params, yamls
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path

FOLDER = Path("presets")
BASE = "embedded"
_NOT_PRESETS = frozenset({"grammar"})  # files of the folder that are data


def names(folder: Path = FOLDER) -> list[str]:
    """Return the presets that exist, the base first."""
    found = sorted(path.stem for path in folder.glob("*.yaml") if path.stem not in _NOT_PRESETS)
    return sorted(found, key=lambda name: name != BASE)


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
    """Return the preset's first comment block in one line: what it is for."""
    if name == BASE:
        return "The project's own synthetic catalogue; needs no data and no network."
    block = re.match(r"(?:#[^\n]*\n)*", path_of(name, folder).read_text())
    text = " ".join(line.lstrip("# ").rstrip() for line in (block.group() if block else "").splitlines())
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]


def compose(name: str, data: Path | None = None, folder: Path = FOLDER, seed: int | None = None) -> str:
    """Return the text of params.yaml under preset `name`; the base's text stays byte for byte but for another `seed`.

    Args:
        name: the preset.
        data: file or folder of the raw data, for a preset that doesn't bring its own; without it
            `$SIDFLOW_DATA/<name>` where that exists.
        folder: where presets lie.
        seed: of every model; None takes the preset's.

    Raises:
        InputError: no such preset, no data where it needs some, or data that is not there.
    """
    text = path_of(BASE, folder).read_text()
    if name == BASE:
        if data is not None:
            _refuse_data(name)
        return text if seed is None else re.sub(r"(?m)^seed: *\d+", f"seed: {seed}", text)
    base, overlay = _load(path_of(BASE, folder)), _load(path_of(name, folder))
    inherited = (base.get("ingest") or {}).get("path")
    source = (base.get("ingest") or {}).get("source")
    merge(base, overlay)
    base["preset"] = name
    if seed is not None:
        base["seed"] = seed
    ingest = base.setdefault("ingest", CommentedMap())
    if ingest.get("source") == "synthetic":
        if data is not None:
            _refuse_data(name)
    elif data is not None or "path" not in ingest or (ingest.get("source") != source and ingest["path"] == inherited):
        _set_path(ingest, str(_data_folder(name, data)))
    base["recommenders"] = CommentedSeq(dag.recommenders_of(base))
    base["recommenders"].fa.set_flow_style()
    out = io.StringIO()
    _yaml().dump(base, out)
    return out.getvalue()


def listing() -> list[str]:
    """Return a line per preset: a star for the one in params.yaml, its name, what it is for."""
    current = params.load_all().get("preset") if params.PATH.is_file() else None
    width = max((len(name) for name in names()), default=0)
    return [f"{'*' if name == current else ' '} {name:<{width}}  {purpose(name)}".rstrip() for name in names()]


def refresh() -> str:
    """Write presets/embedded.yaml from params.yaml and say so.

    Raises:
        InputError: params.yaml is another preset's.
    """
    current = params.load_all().get("preset")
    if current != BASE:
        raise InputError(
            str(params.PATH),
            expected=f"preset {BASE}",
            found=str(current),
            remedy=f"`sidflow preset apply {BASE}` first",
        )
    with atomic_path(FOLDER / f"{BASE}.yaml") as temporary:
        temporary.write_text(params.PATH.read_text())
    return f"{FOLDER / BASE}.yaml is params.yaml now"


def merge(base: CommentedMap, patch: Mapping[str, Any]) -> None:
    """Apply a JSON merge patch in place; comments of what stays are kept."""
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(base.get(key), CommentedMap):
            merge(base[key], value)
            if not base[key]:  # ruamel would write its `{}` below the comments of what is gone
                base[key] = _empty()
                base.ca.items.pop(key, None)
        elif isinstance(value, Mapping):
            base[key] = _empty()
            merge(base[key], value)
        else:
            base[key] = value


def _empty() -> CommentedMap:
    fresh = CommentedMap()
    fresh.fa.set_flow_style()
    return fresh


def _refuse_data(name: str) -> None:
    raise InputError(
        f"preset {name}", expected="no --data: its catalogue is generated", found="--data", remedy="leave it out"
    )


def _set_path(ingest: CommentedMap, path: str) -> None:
    if "path" in ingest:
        ingest["path"] = path
    else:
        ingest.insert(1 if "source" in ingest else 0, "path", path)


def _data_folder(name: str, data: Path | None) -> Path:
    shared = os.environ.get("SIDFLOW_DATA")
    place = data if data is not None else Path(shared) / name if shared else None
    if place is None:
        raise InputError(
            f"preset {name}",
            expected="a place of the raw data",
            found="neither --data nor SIDFLOW_DATA",
            remedy=f"`sidflow preset apply {name} --data DIR`",
        )
    if not place.expanduser().exists():
        raise InputError(
            f"preset {name}",
            expected="raw data that exists",
            found=f"nothing at {place}",
            remedy=f"`sidflow preset apply {name} --data DIR` with the folder that holds it",
        )
    return Path(os.path.normpath(place.expanduser().absolute()))  # a link stays: teammates may share its name


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _load(path: Path) -> CommentedMap:
    content = yamls.read_mapping(path, _yaml())
    return content if isinstance(content, CommentedMap) else CommentedMap()
