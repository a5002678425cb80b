"""From one preset to another: the workspace holds one preset's artifacts at a time, and coming back reruns nothing.

What DVC's cache holds is removed from the workspace; what it does not (metrics, plots, dvc.lock, params.yaml) is
kept in `.sidflow/presets/<preset>/`; an out that is neither is moved there, never deleted.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sidflow.commands import presets
from sidflow.commands.check import check
from sidflow.commands.dag import dag_stages
from sidflow.commands.dvc import LOCK_PATH, LockedOut, dvc_cache_folder, locked_outs, matches_lock, run_dvc
from sidflow.contracts import params
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path

KEPT = Path(".sidflow/presets")
UNREADABLE = "unreadable"  # for a params.yaml that names no preset


class Applied(NamedTuple):
    """What applying a preset did."""

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
    text = presets.preset_text(name, data, seed=seed)
    check(_parsed(text), "preset " + name)
    current = _current_params()
    left = str(current.get("preset")) if current else None
    edits = _keep_params(left, text)
    if left is not None and left == name:
        stay = {out for stage in dag_stages(_parsed(text)) for out in stage.outs}
        removed, aside = _put_away(left, current, stay)
        _write(params.PARAMS_PATH, text)
        return Applied(left, removed, aside, False, edits)
    removed, aside = _put_away(left, current, set()) if left else (0, ())
    if left and LOCK_PATH.is_file():
        (KEPT / left).mkdir(parents=True, exist_ok=True)
        LOCK_PATH.replace(KEPT / left / LOCK_PATH)
    _write(params.PARAMS_PATH, text)
    return Applied(left, removed, aside, _enter(name), edits)


def next_step_lines(name: str, applied: Applied) -> list[str]:
    """Return what happened, a line each."""
    lines = [f"params.yaml is preset {name} now."]
    if applied.edits_kept:
        lines.append(f"Your edits of params.yaml are kept in {applied.edits_kept}.")
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


def _keep_params(left: str | None, text: str) -> Path | None:
    """Copy a params.yaml that was edited by hand aside, and return where; None where nothing was edited."""
    if not params.PARAMS_PATH.is_file():
        return None
    if left is None:  # nothing of it can be read, but it may hold a day's edits
        kept = KEPT / UNREADABLE / params.PARAMS_PATH
        _write(kept, params.PARAMS_PATH.read_text(errors="replace"))
        return kept
    now = params.PARAMS_PATH.read_text()
    try:
        content = params.load_params()
        data, seed = content.get("ingest", {}).get("path"), content.get("seed")
        folder = Path(data) if data and Path(data).is_absolute() else None
        composed = presets.preset_text(left, folder, seed=seed if isinstance(seed, int) else None)
    except (InputError, AttributeError):
        composed = None
    if now in (composed, text):
        return None
    kept = KEPT / left / "params.yaml"
    _write(kept, now)
    return kept


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _put_away(preset: str, settings: dict[str, Any], stay: set[str]) -> tuple[int, tuple[str, ...]]:
    """Take the preset's outs but those that `stay` away; return how many, and which DVC's cache doesn't hold."""
    outs = {out.path: out for out in locked_outs()}
    uncached: set[str] = set()
    with suppress(InputError):  # params that no longer fit dvc.yaml: what the lock knows is enough
        for stage in dag_stages(settings):
            uncached |= stage.uncached
            for path in stage.outs:
                outs.setdefault(path, LockedOut(stage.name, path, ""))
    present = [out for out in outs.values() if out.path not in stay and Path(out.path).exists()]
    cache = dvc_cache_folder() if present else None
    aside = []
    for out in present:
        path = Path(out.path)
        if out.path in uncached and path.is_file():
            _move(path, KEPT / preset / path)
        elif cache is not None and matches_lock(path, out.md5, cache):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            _move(path, KEPT / preset / "aside" / path)
            aside.append(out.path)
    return len(present) - len(aside), tuple(aside)


def _move(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)


def _enter(preset: str) -> bool:
    kept = KEPT / preset
    if not (kept / LOCK_PATH).is_file():
        return False
    shutil.copyfile(kept / LOCK_PATH, LOCK_PATH)
    for stage in dag_stages(params.load_params()):
        for path in stage.uncached:
            if (kept / path).is_file():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kept / path, path)
    return run_dvc("checkout", "--quiet").returncode == 0
