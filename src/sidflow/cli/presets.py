"""Presets: composed, applied, and the workspace switched from one to another.

A preset is a patch: mappings merge, null removes an entry, and any other value replaces. `extends: NAME` lays it over
another preset instead of the defaults.

Outs that DVC's cache holds are removed from the workspace. Files that it never holds (metrics, plots, dvc.lock,
params.yaml) are kept in `.sidflow/presets/<preset>/`. Any other out is moved there, never deleted.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from sidflow.cli.check import check
from sidflow.cli.dvc import (
    LOCK_PATH,
    LockedOut,
    dag_stages,
    dvc_cache_folder,
    locked_outs,
    matches_lock,
    recommenders_of,
    run_dvc,
)
from sidflow.cli.params_file import params_text
from sidflow.cli.sections import SECTIONS, Resolved, TopParams, resolve
from sidflow.cli.selection import WITHOUT_IDS, select
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path
from sidflow.core.params import read_yaml_mapping

FOLDER = Path("presets")
_NOT_PRESETS = frozenset({"grammar"})  # files of the folder that are data


class Layer(NamedTuple):
    """The values that one preset file sets."""

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
    comment = re.match(r"(?:#[^\n]*\n)*", path_of(name, folder).read_text())
    text = " ".join(line.lstrip("# ").rstrip() for line in (comment.group() if comment else "").splitlines())
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]


def layers(name: str) -> list[Layer]:
    """Return the preset and those that it extends, the innermost first.

    Raises:
        InputError: a preset does not exist, extends itself, or cannot be read.
    """
    chain: list[Layer] = []
    extended: str | None = name
    while extended is not None:
        values = read_yaml_mapping(path_of(extended))
        chain.insert(0, Layer(extended, {key: value for key, value in values.items() if key != "extends"}))
        extended = values.get("extends")
        if extended in [layer.preset for layer in chain]:
            raise InputError(
                str(path_of(name)),
                expected="presets that extend one another without a circle",
                found=f"`{extended}` twice",
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
    return resolve_preset(values, chain)


def preset_values(chain: Sequence[Layer]) -> dict[str, Any]:
    """Return the defaults with a preset's layers over them; the last one is the preset."""
    values = default_values()
    for layer in chain:
        merge(values, layer.values)
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        values[section] = {key: entry for key, entry in (values.get(section) or {}).items() if entry is not None}
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
        {"semantic_ids": list(TopParams.model_fields["semantic_ids"].default)}
        | {name: model().model_dump(mode="json") for name, model in models.items()}
        | {name: {} for name, section in SECTIONS.items() if section.has_entries}
    )


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


KEPT = Path(".sidflow/presets")
UNREADABLE = "unreadable"  # for a params.yaml that names no preset


class Applied(NamedTuple):
    """The result of applying a preset."""

    left: str | None  # the preset that was there before, None where there was none
    removed: int  # outs that DVC's cache holds
    aside: tuple[str, ...]  # outs that it doesn't hold, moved to `.sidflow/presets/<left>/aside`
    restored: bool  # the artifacts of an earlier run of this preset are back
    edits_kept: Path | None  # where the params that were edited by hand lie now


def apply(name: str, data: Path | None = None, seed: int | None = None) -> Applied:
    """Write params.yaml for preset `name` and bring its artifacts, if it ran before, in place of the others.

    With another `seed` of the preset that is there already, its artifacts stay where they are: `dvc repro` remakes
    what depends on the seed, and finds in DVC's cache what it made of a seed before.

    Raises:
        InputError: no such preset, no data, or params that a stage would refuse; nothing is changed then.
    """
    text = preset_text(name, data, seed=seed)
    check(_parsed(text), "preset " + name)
    current = _current_params()
    left = str(current.get("preset")) if current else None
    edits = _back_up_edits(left, text)
    if left is not None and left == name:
        keep = {out for stage in dag_stages(_parsed(text)) for out in stage.outs}
        removed, aside = _store_outs(left, current, keep)
        _write(params.PARAMS_PATH, text)
        return Applied(left, removed, aside, False, edits)
    removed, aside = _store_outs(left, current, set()) if left else (0, ())
    if left and LOCK_PATH.is_file():
        (KEPT / left).mkdir(parents=True, exist_ok=True)
        LOCK_PATH.replace(KEPT / left / LOCK_PATH)
    _write(params.PARAMS_PATH, text)
    return Applied(left, removed, aside, _restore(name), edits)


def choose_recommenders(names: Sequence[str]) -> list[str]:
    """Write into params.yaml what the recommenders need and nothing else; return what happened, a line each.

    Entries that an earlier choice left out come back from the preset; values that were edited stay.

    Args:
        names: of the recommenders; empty: those that params.yaml lists.

    Raises:
        InputError: params.yaml does not fit its models, or a name is unknown; nothing is changed then.
    """
    where = str(params.PARAMS_PATH)
    current = plain_values(resolve(params.load_params(), where))
    selected = select(_with_entries_of_preset(current), names or current["recommenders"], where)
    resolved = resolve(selected, where)
    check(plain_values(resolved), where)
    _write(params.PARAMS_PATH, params_text(resolved))
    listed = resolved.top.recommenders
    others = [name for name in recommenders_of(selected) if name not in listed]
    lines = [f"params.yaml has {', '.join(listed)}" + (f"; for them also {', '.join(others)}." if others else ".")]
    return [*lines, "Next: `dvc repro`."]


def _with_entries_of_preset(current: Mapping[str, Any]) -> dict[str, Any]:
    """Return params with the entries, encoders and semantic IDs of their preset beside their own."""
    name = str(current["preset"])
    if name not in names():
        return dict(current)
    values = {**preset_values(layers(name)), "ingest": current["ingest"]}
    full = plain_values(resolve(values, f"preset {name}"))
    merged = dict(current) | {"semantic_ids": full["semantic_ids"]}
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        merged[section] = {**full[section], **current[section]}
    if "embed" in current:
        merged["embed"] = {part: {**full["embed"][part], **current["embed"][part]} for part in current["embed"]}
    if "report" in current:
        merged["report"] = {**current["report"], **{name: full["report"][name] for name in WITHOUT_IDS}}
    return merged


def next_step_lines(name: str, applied: Applied) -> list[str]:
    """Return what happened, a line each."""
    lines = [f"params.yaml is preset {name} now."]
    if applied.edits_kept:
        lines.append(f"The params.yaml of before is kept in {applied.edits_kept}.")
    if applied.left and applied.left != name and applied.removed:
        lines.append(f"{applied.removed} artifacts of {applied.left} are put away; applying it again brings them back.")
    elif applied.removed:
        lines.append(f"{applied.removed} artifacts that no stage makes any more are gone; DVC's cache holds them.")
    if applied.aside:
        lines.append(
            f"{len(applied.aside)} artifacts that DVC's cache doesn't hold are in "
            f"{KEPT / str(applied.left) / 'aside'}, for example {applied.aside[0]}."
        )
    lines.append("Its artifacts are back; `dvc repro` checks them." if applied.restored else "Next: `dvc repro`.")
    return lines


def _current_params() -> dict[str, Any]:
    try:
        return params.load_params()
    except InputError:
        return {}


def _parsed(text: str) -> dict[str, Any]:
    with atomic_path(KEPT / "new-params.yaml") as temporary:
        temporary.write_text(text)
        return params.load_params(temporary)


def _back_up_edits(left: str | None, text: str) -> Path | None:
    """Copy a params.yaml that was edited by hand aside, and return where; None where nothing was edited."""
    if not params.PARAMS_PATH.is_file():
        return None
    if left is None:  # nothing of it can be read, but it may hold a day's edits
        backup = KEPT / UNREADABLE / params.PARAMS_PATH
        _write(backup, params.PARAMS_PATH.read_text(errors="replace"))
        return backup
    current = params.PARAMS_PATH.read_text()
    try:
        content = params.load_params()
        data, seed = content.get("ingest", {}).get("path"), content.get("seed")
        folder = Path(data) if data and Path(data).is_absolute() else None
        composed = preset_text(left, folder, seed=seed if isinstance(seed, int) else None)
    except (InputError, AttributeError):
        composed = None
    if current in (composed, text):
        return None
    backup = KEPT / left / "params.yaml"
    _write(backup, current)
    return backup


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _store_outs(preset: str, settings: dict[str, Any], keep: set[str]) -> tuple[int, tuple[str, ...]]:
    """Remove the preset's outs except `keep`; return how many, and the paths that DVC's cache doesn't hold."""
    outs = {out.path: out for out in locked_outs()}
    uncached: set[str] = set()
    with suppress(InputError):  # params that no longer fit dvc.yaml: what the lock knows is enough
        for stage in dag_stages(settings):
            uncached |= stage.uncached
            for path in stage.outs:
                outs.setdefault(path, LockedOut(stage.name, path, ""))
    existing = [out for out in outs.values() if out.path not in keep and Path(out.path).exists()]
    cache = dvc_cache_folder() if existing else None
    aside = []
    for out in existing:
        path = Path(out.path)
        if out.path in uncached and path.is_file():
            _move(path, KEPT / preset / path)
        elif cache is not None and matches_lock(path, out.md5, cache):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            _move(path, KEPT / preset / "aside" / path)
            aside.append(out.path)
    return len(existing) - len(aside), tuple(aside)


def _move(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


def _restore(preset: str) -> bool:
    stored = KEPT / preset
    if not (stored / LOCK_PATH).is_file():
        return False
    shutil.copyfile(stored / LOCK_PATH, LOCK_PATH)
    for stage in dag_stages(params.load_params()):
        for path in stage.uncached:
            if (stored / path).is_file():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(stored / path, path)
    return run_dvc("checkout", "--quiet").returncode == 0
