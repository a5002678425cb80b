"""Reads the project around the artifacts: git, DVC's lock and cache, and the stages of dvc.yaml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sidflow.core.errors import InputError
from sidflow.core.files import file_md5
from sidflow.core.params import read_yaml_mapping


def run_git(*arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    """Run `git` and return its result; the exit code is not checked."""
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def git_output(*arguments: str, folder: Path = Path()) -> str:
    """Return what `git` prints.

    Raises:
        InputError: it failed.
    """
    completed = run_git(*arguments, folder=folder)
    if completed.returncode:
        raise InputError(
            "git",
            expected=f"`git {arguments[0]}` to work",
            found=completed.stderr.strip(),
            remedy="run in the project's folder",
        )
    return completed.stdout


LOCK_PATH = Path("dvc.lock")


class LockedOut(NamedTuple):
    """One out of dvc.lock."""

    stage: str
    path: str
    md5: str  # ends in `.dir` for a folder


def dvc_executable() -> Path | None:
    """Return DVC beside this Python, else on the PATH, else None."""
    sibling = Path(sys.executable).parent / "dvc"
    program = str(sibling) if sibling.is_file() else shutil.which("dvc")
    return Path(program) if program else None


def dvc_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for DVC: `python` in a stage's command is this Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **(extra or {})}


def run_dvc(*arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
    """Run `dvc` with its output captured.

    Raises:
        InputError: there is no DVC.
    """
    program = dvc_executable()
    if program is None:
        raise InputError("dvc", expected="the dvc command", found="none", remedy="`make` installs it into .venv")
    return subprocess.run(
        [str(program), *arguments], cwd=folder, env=dvc_environment(), capture_output=True, text=True, check=False
    )


def read_lock(path: Path = LOCK_PATH) -> dict:
    """Return dvc.lock's stages by name; empty where nothing has run."""
    return (read_yaml_mapping(path).get("stages") or {}) if path.is_file() else {}


def locked_outs(path: Path = LOCK_PATH) -> list[LockedOut]:
    """Return every out that dvc.lock names, in its order."""
    return [
        LockedOut(stage, out["path"], str(out.get("md5") or ""))
        for stage, body in read_lock(path).items()
        for out in body.get("outs", [])
    ]


def dvc_cache_folder(folder: Path = Path()) -> Path | None:
    """Return the folder of DVC's local cache, or None outside of a DVC project."""
    completed = run_dvc("cache", "dir", folder=folder)
    return (
        (folder / completed.stdout.strip()).resolve()
        if completed.returncode == 0 and completed.stdout.strip()
        else None
    )


def is_cached(cache: Path, md5: str) -> bool:
    """Return whether the cache holds the file or the folder's listing of that hash."""
    return bool(md5) and cached_object(cache, md5).is_file()


def cached_listing(cache: Path, md5: str) -> dict[str, str] | None:
    """Return the hash of each file of a cached folder by relative path; None where the cache lacks the listing."""
    if not md5.endswith(".dir") or not is_cached(cache, md5):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(cached_object(cache, md5).read_text())}


def matches_lock(path: Path, md5: str, cache: Path) -> bool:
    """Return whether `path` has the hash in the lock, and the cache can restore it."""
    if not is_cached(cache, md5):
        return False
    if not md5.endswith(".dir"):
        return path.is_file() and file_md5(path) == md5
    locked = cached_listing(cache, md5) or {}
    present = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if not file.is_dir()}
    return set(locked) == set(present) and all(
        cached_object(cache, locked[name]).is_file() and file_md5(file) == locked[name]
        for name, file in present.items()
    )


def cached_object(cache: Path, md5: str) -> Path:
    """Return the path in the cache of the object with that hash, which need not exist."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


DAG_PATH = Path("dvc.yaml")
RECOMMENDERS = PurePosixPath("artifacts/recommenders")
_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")


class Stage(NamedTuple):
    """One stage with every `${...}` filled."""

    name: str  # as DVC calls it, for example `train_sequential@sasrec`
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # all of them, metrics and plots included
    uncached: frozenset[str]  # the outs that DVC's cache does not keep


def dag_stages(params: Mapping[str, Any], path: Path = DAG_PATH) -> list[Stage]:
    """Return the stages of dvc.yaml under `params`, in its order.

    Raises:
        InputError: dvc.yaml is absent, or names a param that does not exist or has no entries to go through.
    """
    if not path.is_file():
        raise InputError(
            str(path), expected="a DVC pipeline", found="no such file", remedy="run in the project's folder"
        )
    content = read_yaml_mapping(path)
    expanded: list[Stage] = []
    for name, body in content["stages"].items():
        if "foreach" not in body:
            expanded.append(_stage(name, body, params))
            continue
        for key, item in _foreach_entries(body["foreach"], params):
            expanded.append(_stage(f"{name}@{key}", body["do"], {**params, "key": key, "item": item}))
    return expanded


def recommenders_of(params: Mapping[str, Any], path: Path = DAG_PATH) -> list[str]:
    """Return the recommenders that stages make under `params`, in the DAG's order, `compare.references` last.

    `recommenders` in `params` itself is not read; it has to equal this list.

    Raises:
        InputError: as `dag_stages`.
    """
    outs = [PurePosixPath(out) for stage in dag_stages({**params, "recommenders": []}, path) for out in stage.outs]
    names = [out.name for out in outs if out.parent == RECOMMENDERS]
    references = (params.get("compare") or {}).get("references", ())
    return sorted(names, key=lambda name: name in references)


def with_inputs(wanted: Sequence[Stage], stages: Sequence[Stage]) -> list[Stage]:
    """Return the wanted stages and every stage whose outs they read, directly or not, in the order of `stages`."""
    needed, waiting = {stage.name for stage in wanted}, list(wanted)
    while waiting:
        deps = waiting.pop().deps
        for other in stages:
            if other.name not in needed and any(_overlap(dep, out) for dep in deps for out in other.outs):
                needed.add(other.name)
                waiting.append(other)
    return [stage for stage in stages if stage.name in needed]


def _overlap(one: str, other: str) -> bool:
    """Return whether two paths are the same, or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _foreach_entries(foreach: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    entries = _value(foreach, params)
    if isinstance(entries, Mapping):
        yield from ((str(key), item) for key, item in entries.items())
    elif not isinstance(entries, list):  # DVC refuses a null, too
        name = _param_name(foreach) or foreach
        raise InputError(
            "dvc.yaml",
            expected=f"params whose `{name}` is a mapping or a list",
            found="null, no entries" if entries is None else repr(entries),
            remedy=f"give it entries in params.yaml, or write `{name}: {{}}` for none",
        )
    else:
        scalars_only = not any(isinstance(item, (Mapping, list)) for item in entries)
        yield from ((str(item) if scalars_only else str(index), item) for index, item in enumerate(entries))


def _stage(name: str, body: Mapping[str, Any], params: Mapping[str, Any]) -> Stage:
    outs: list[str] = []
    uncached: set[str] = set()
    for kind in ("outs", "metrics", "plots"):
        for entry in body.get(kind, []):
            path, options = next(iter(entry.items())) if isinstance(entry, Mapping) else (entry, {})
            outs.append(_filled(path, params))
            if (options or {}).get("cache") is False:
                uncached.add(outs[-1])
    return Stage(name, tuple(_filled(dep, params) for dep in body.get("deps", [])), tuple(outs), frozenset(uncached))


def _filled(template: str, params: Mapping[str, Any]) -> str:
    return _PLACEHOLDER.sub(lambda placeholder: str(_lookup(placeholder.group(1), params)), template)


def _value(template: Any, params: Mapping[str, Any]) -> Any:
    name = _param_name(template)
    return _lookup(name, params) if name else template


def _param_name(template: Any) -> str | None:
    """Return the param that is the whole of `template`, if it is one."""
    placeholder = _PLACEHOLDER.fullmatch(template) if isinstance(template, str) else None
    return placeholder.group(1) if placeholder else None


def _lookup(dotted: str, params: Any) -> Any:
    value = params
    for part in dotted.strip().split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(
                "dvc.yaml",
                expected=f"params to have `{dotted}`",
                found=f"no `{part}`",
                remedy="add it to params.yaml, or `sidflow preset apply` a preset that has it",
            )
        value = value[part]
    return value
