"""The workspace switched from one preset to another, and the recommenders of the present one chosen.

Outs that DVC's cache holds are removed from the workspace. Files that it never holds (metrics, plots, dvc.lock,
params.yaml) are kept in `.sidflow/presets/<preset>/`. Any other out is moved there, never deleted. Nothing there is
overwritten: what lies under the same name with other content stays, under a name with a number or in `earlier`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

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
from sidflow.cli.kept import copy, fits, free_folder, free_path, move
from sidflow.cli.models import missing_packages_line
from sidflow.cli.params_file import params_text
from sidflow.cli.presets import compose, layers, names, plain_values, preset_values, sized_by_data
from sidflow.cli.sections import SECTIONS, resolve
from sidflow.cli.selection import WITHOUT_IDS, select
from sidflow.cli.sizes import Counts, chosen_lines, count_data, synthetic_counts, time_line
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path

KEPT = Path(".sidflow/presets")
UNREADABLE = "unreadable"  # for a params.yaml that names no preset


class Applied(NamedTuple):
    """The result of applying a preset."""

    left: str | None  # the preset that was there before, None where there was none
    removed: int  # outs that DVC's cache holds
    aside: tuple[str, ...]  # outs that it doesn't hold
    aside_in: Path | None  # where those are now
    replaced_in: Path | None  # where dvc.lock and metrics lie that others have replaced
    restored: bool  # the artifacts of an earlier run of this preset are back
    edits_kept: Path | None  # where the params that were edited by hand lie now
    chosen: tuple[str, ...] = ()  # the size of the data, what was chosen for it, and the expected time, a line each
    missing: str = ""  # a line: packages of trained models that are not installed


def apply(name: str, data: Path | None = None, seed: int | None = None) -> Applied:
    """Write params.yaml for preset `name` and bring its artifacts, if it ran before, in place of the others.

    With another `seed` of the preset that is there already, its artifacts stay where they are: `dvc repro` remakes
    what depends on the seed, and finds in DVC's cache what it made of a seed before.

    Raises:
        InputError: no such preset, no data, or params that a stage would refuse; nothing is changed then.
    """
    resolved = compose(name, data, seed)
    counted = count_data(resolved)
    if counted is not None and sized_by_data(layers(name)):
        resolved = compose(name, data, seed, counted.counts)
    text = params_text(resolved)
    check(plain_values(resolved), f"preset {name}")
    chosen = tuple(chosen_lines(resolved, counted)) if counted else ()
    if (counts := synthetic_counts(resolved)) is not None:
        chosen = (time_line(resolved, counts),)
    missing = missing_packages_line(resolved)
    current = _current_params()
    left = str(current["preset"]) if current.get("preset") else None
    if left is None:
        edits, replaced_in = _store_unreadable(name, plain_values(resolved))
        _write(params.PARAMS_PATH, text)
        return Applied(None, 0, (), None, replaced_in, _restore(name), edits, chosen, missing)
    edits = _back_up_edits(left, text)
    keep = {out for stage in dag_stages(plain_values(resolved)) for out in stage.outs} if left == name else set()
    removed, aside, aside_in, replaced_in = _store_run(left, current, keep, with_lock=left != name)
    _write(params.PARAMS_PATH, text)
    restored = left != name and _restore(name)
    return Applied(left, removed, aside, aside_in, replaced_in, restored, edits, chosen, missing)


def next_step_lines(name: str, applied: Applied) -> list[str]:
    """Return what happened, a line each."""
    lines = [f"params.yaml is preset {name} now.", *applied.chosen]
    if applied.missing:
        lines.append(applied.missing)
    if applied.edits_kept:
        lines.append(f"The earlier params.yaml is kept in {applied.edits_kept}.")
    if applied.left and applied.left != name and applied.removed:
        lines.append(f"{applied.removed} artifacts of {applied.left} are put away; applying it again brings them back.")
    elif applied.removed:
        lines.append(f"{applied.removed} artifacts that no stage makes any more are gone; DVC's cache holds them.")
    if applied.aside:
        lines.append(
            f"{len(applied.aside)} artifacts that DVC's cache doesn't hold are in {applied.aside_in}, for example "
            f"{applied.aside[0]}."
        )
    if applied.replaced_in:
        lines.append(f"dvc.lock and metrics that others have replaced are in {applied.replaced_in}.")
    lines.append("Its artifacts are back; `dvc repro` checks them." if applied.restored else "Next: `dvc repro`.")
    return lines


def choose_recommenders(names: Sequence[str]) -> list[str]:
    """Write into params.yaml what the recommenders need and nothing else; return what happened, a line each.

    Entries that an earlier choice left out come back from the preset. Edited values of entries that stay are kept as
    they are; where an edited one is left out, a copy of params.yaml is kept first.

    Args:
        names: of the recommenders; empty: those that params.yaml lists.

    Raises:
        InputError: params.yaml does not fit its models, or a name is unknown; nothing is changed then.
    """
    where = str(params.PARAMS_PATH)
    current = plain_values(resolve(params.load_params(), where))
    preset = _preset_values_here(current)
    selected = select(_with_entries_of(preset, current), names or current["recommenders"], where)
    resolved = resolve(selected, where)
    written = plain_values(resolved)
    check(written, where)
    by_selection = {"semantic_ids": [], "report": WITHOUT_IDS}
    edits = {name: value for name, value in current.items() if name != "recommenders"}
    backup = _back_up_params(str(current["preset"])) if _loses(edits, written, [preset, by_selection]) else None
    _write(params.PARAMS_PATH, params_text(resolved))
    listed = resolved.top.recommenders
    others = [name for name in recommenders_of(selected) if name not in listed]
    lines = [f"params.yaml has {', '.join(listed)}" + (f"; for them also {', '.join(others)}." if others else ".")]
    if backup:
        lines.append(f"Edited values are no longer in it; the earlier params.yaml is kept in {backup}.")
    return [*lines, "Next: `dvc repro`."]


def _preset_values_here(current: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the preset of params has, for the data that they have; nothing where there is no such preset."""
    name = str(current["preset"])
    if name not in names():
        return {}
    values = {**preset_values(layers(name), _counts_of(current)), "ingest": current["ingest"]}
    return plain_values(resolve(values, f"preset {name}"))


def _with_entries_of(preset: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Return params with the entries, encoders and semantic IDs of their preset beside their own."""
    if not preset:
        return dict(current)
    merged = dict(current) | {"semantic_ids": preset["semantic_ids"]}
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        merged[section] = {**preset[section], **current[section]}
    if "embed" in current:
        merged["embed"] = {part: {**preset["embed"][part], **current["embed"][part]} for part in current["embed"]}
    if "report" in current:
        merged["report"] = {**current["report"], **{name: preset["report"][name] for name in WITHOUT_IDS}}
    return merged


def _loses(value: Any, written: Any, regained: Sequence[Any]) -> bool:
    """Return whether a value is written otherwise, or not at all, and is in none of `regained` either."""
    if isinstance(value, Mapping) and isinstance(written, Mapping):
        return any(
            _loses(inner, written.get(name), [one.get(name) for one in regained if isinstance(one, Mapping)])
            for name, inner in value.items()
        )
    return value != written and value not in regained


def _current_params() -> dict[str, Any]:
    try:
        return params.load_params()
    except InputError:
        return {}


def _back_up_edits(left: str, text: str) -> Path | None:
    """Copy a params.yaml that was edited by hand aside, and return where; None where nothing was edited."""
    return None if params.PARAMS_PATH.read_text() == text or not _is_edited(left) else _back_up_params(left)


def _back_up_params(preset: str) -> Path:
    backup = free_path(params.PARAMS_PATH, KEPT / preset / params.PARAMS_PATH)
    copy(params.PARAMS_PATH, backup)
    return backup


def _store_unreadable(name: str, values: Mapping[str, Any]) -> tuple[Path | None, Path | None]:
    """Keep a params.yaml that names no preset, and the lock and metrics that those of preset `name` would replace.

    Returns:
        Where params.yaml lies, and the folder of lock and metrics; None for what was not there or stays.
    """
    files = [LOCK_PATH, *(Path(out) for stage in dag_stages(values) for out in sorted(stage.uncached))]
    stored = KEPT / name
    if (stored / LOCK_PATH).is_file() and not all(fits(path, stored / path) for path in files if path.is_file()):
        replaced = [path for path in files if path.is_file()]
    else:
        replaced = []
    backed_up = [params.PARAMS_PATH] if params.PARAMS_PATH.is_file() else []  # it may hold a day's edits
    folder = free_folder(KEPT / UNREADABLE, [*backed_up, *replaced])
    for path in backed_up:
        copy(path, folder / path)
    for path in replaced:
        move(path, folder / path)
    return folder / params.PARAMS_PATH if backed_up else None, folder if replaced else None


def _is_edited(name: str) -> bool:
    """Return whether params.yaml has a value that neither its preset nor `--data` and `--seed` gave it.

    Knobs that only another version of sidflow has, comments and layout are no edits.
    """
    try:
        content = params.load_params()
        values = preset_values(layers(name), _counts_of(content))
        values["ingest"]["path"] = content["ingest"]["path"]
        values["seed"] = content["seed"]
        composed = plain_values(resolve(values, f"preset {name}"))
    except (InputError, KeyError, TypeError):
        return True
    return any(_differ(value, composed[section]) for section, value in content.items() if section in composed)


def _differ(value: Any, composed: Any) -> bool:
    """Return whether two values differ in a knob that both have, or in their entries."""
    if isinstance(value, dict) and isinstance(composed, dict):
        return any(_differ(value[name], composed[name]) for name in value.keys() & composed.keys()) or (
            value.keys() != composed.keys() and any(isinstance(inner, dict) for inner in (value | composed).values())
        )
    return value != composed


def _counts_of(values: Mapping[str, Any]) -> Counts | None:
    return Counts(*values["sized_for"]) if values.get("sized_for") else None


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


class Stored(NamedTuple):
    """What was put away of a run."""

    removed: int
    aside: tuple[str, ...]
    aside_in: Path | None
    replaced_in: Path | None


def _store_run(preset: str, settings: Mapping[str, Any], keep: set[str], *, with_lock: bool) -> Stored:
    """Put away the preset's outs except `keep`, and `with_lock` dvc.lock."""
    outs = {out.path: out for out in locked_outs()}
    uncached: set[str] = set()
    with suppress(InputError):  # params that no longer fit dvc.yaml: what the lock knows is enough
        for stage in dag_stages(settings):
            uncached |= stage.uncached
            for path in stage.outs:
                outs.setdefault(path, LockedOut(stage.name, path, ""))
    existing = [out for out in outs.values() if out.path not in keep and Path(out.path).exists()]
    cache = dvc_cache_folder() if existing else None
    files, aside = [LOCK_PATH] if with_lock and LOCK_PATH.is_file() else [], []
    for out in existing:
        path = Path(out.path)
        if out.path in uncached and path.is_file():
            files.append(path)
        elif cache is not None and matches_lock(path, out.md5, cache):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            aside.append(path)
    aside_in = free_folder(KEPT / preset / "aside", aside) if aside else None
    if aside_in:
        for path in aside:
            move(path, aside_in / path)
    replaced_in = _store_files(files, KEPT / preset)
    return Stored(len(existing) - len(aside), tuple(map(str, aside)), aside_in, replaced_in)


def _store_files(files: Sequence[Path], folder: Path) -> Path | None:
    """Move dvc.lock and metrics into the folder; what lies there with other content goes to `earlier` inside of it.

    Returns:
        That folder; None where nothing was replaced.
    """
    replaced = [path for path in files if not fits(path, folder / path)]
    earlier = free_folder(folder / "earlier", replaced, root=folder) if replaced else None
    if earlier:
        for path in replaced:
            move(folder / path, earlier / path)
    for path in files:
        move(path, folder / path)
    return earlier


def _restore(preset: str) -> bool:
    stored = KEPT / preset
    if not (stored / LOCK_PATH).is_file():
        return False
    copy(stored / LOCK_PATH, LOCK_PATH)
    for stage in dag_stages(params.load_params()):
        for path in stage.uncached:
            if (stored / path).is_file():
                copy(stored / path, Path(path))
    return run_dvc("checkout", "--quiet").returncode == 0
