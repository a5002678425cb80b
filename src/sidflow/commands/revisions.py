"""What a revision measured: params and lock from git, results per query from the cache; the workspace is only read."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sidflow.commands import dvc, git
from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.evaluations import PER_QUERY
from sidflow.contracts.artifacts.queries import TEST
from sidflow.contracts.errors import InputError

COLUMNS = [
    *("query_id", "user_id", "part", "rank", "candidates", "sampled_rank", "tied", "history_length", "target_count"),
    *("expected_recall_at_10", "expected_ndcg_at_10"),
]
WORKSPACE = "workspace"


class Revision(NamedTuple):
    """What one state of the project measured."""

    name: str  # as it was typed, or WORKSPACE
    commit: str  # its full hash; empty for the workspace
    preset: str
    tests: dict[str, pl.DataFrame]  # by recommender, in the order of params: COLUMNS of the test queries
    refits: Mapping[str, bool | None] = {}  # which of them were refitted before the test (`contracts.refits`)


def workspace(models: Sequence[str] | None = None) -> Revision:
    """Return what lies in artifacts/.

    Args:
        models: recommenders; all that params name if absent.

    Raises:
        InputError: one of them was not evaluated.
    """
    settings = params.load_all()
    tables = {name: PER_QUERY.read(COLUMNS, model=name) for name in models or settings.get("recommenders") or []}
    known = {name: PER_QUERY.metadata(model=name) for name in tables}
    return _revision(WORKSPACE, "", settings, tables, known)


def committed(name: str, models: Sequence[str] | None = None) -> Revision:
    """Return what a commit, a branch, a tag or an experiment of DVC measured.

    Args:
        name: what git or `dvc exp show` calls it.
        models: recommenders; all that its params name if absent.

    Raises:
        InputError: there is no such revision, its lock has no evaluations, or the cache does not hold them.
    """
    commit = _commit(name)
    settings, locked = _state(name, commit)
    tables = {model: PER_QUERY.at(model=model) for model in models or settings.get("recommenders") or []}
    found = {model: path for model, path in tables.items() if path.parent in locked}
    if not found:
        raise InputError(
            f"{dvc.LOCK} of {name}",
            expected="evaluated recommenders",
            found="none",
            remedy=f"name a revision whose `dvc repro` finished; `git log -- {dvc.LOCK}` lists candidates",
        )
    cache = dvc.cache_folder()
    paths = {model: _cached(cache, locked, path) for model, path in found.items()}
    absent = [model for model, path in paths.items() if path is None]
    if absent:
        raise InputError(
            "DVC's cache",
            expected=f"the results per query of {name}",
            found="recommenders without them",
            count=len(absent),
            example=absent[0],
            remedy=f"`dvc fetch --all-commits` from a remote that has them, or `dvc repro` in a clone at {commit[:10]}",
        )
    files = {model: dataclasses.replace(PER_QUERY, path=str(path)) for model, path in paths.items()}
    read = {model: file.read(COLUMNS) for model, file in files.items()}
    return _revision(name, commit, settings, read, {model: file.metadata() for model, file in files.items()})


def cached_file(name: str, path: Path) -> Path:
    """Return where the cache holds what `path` was in a revision.

    Args:
        name: as for `committed`.
        path: of an out, or of a file in one.

    Raises:
        InputError: there is no such revision, or the cache does not hold the file.
    """
    found = _cached(dvc.cache_folder(), _state(name, _commit(name))[1], path)
    if found is None:
        raise InputError(
            "DVC's cache", expected=f"{path} of {name}", found="none", remedy="`dvc fetch` from a remote that has it"
        )
    return found


def _state(name: str, commit: str) -> tuple[dict, dict[Path, str]]:
    """Return a revision's params, and the hash of every out that its lock names."""
    with tempfile.TemporaryDirectory(prefix="sidflow-compare-") as folder:
        files = {path: Path(folder) / path for path in (params.PATH, dvc.LOCK)}
        for path, copy in files.items():
            copy.write_text(_content(name, commit, path))
        outs = dvc.locked_outs(files[dvc.LOCK])
        return params.load_all(files[params.PATH]), {Path(out.path): out.md5 for out in outs}


def _revision(
    name: str, commit: str, settings: dict, tables: dict[str, pl.DataFrame], known: Mapping[str, dict[str, object]]
) -> Revision:
    tests = {model: table.filter(pl.col("part") == TEST) for model, table in tables.items()}
    return Revision(
        name, commit, str(settings.get("preset")), tests, {one: refits.of(told) for one, told in known.items()}
    )


def _cached(cache: Path | None, locked: Mapping[Path, str], path: Path) -> Path | None:
    """Return where the cache holds an out, or a file in one; None where it does not."""
    out = next((one for one in (path, *path.parents) if one in locked), None)
    if cache is None or out is None:
        return None
    inside = path.relative_to(out).as_posix()
    md5 = locked[out] if out == path else (dvc.listing(cache, locked[out]) or {}).get(inside, "")
    return dvc.object_path(cache, md5) if dvc.cached(cache, md5) else None


def _commit(name: str) -> str:
    """Return the commit that git, or DVC's list of experiments, knows by that name."""
    found = git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").stdout.strip()
    found = found or git.run("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").stdout.strip()
    if not found:
        raise InputError(
            "REV",
            expected="a commit, branch, tag or experiment",
            found=repr(name),
            remedy="`git log --oneline` and `dvc exp show` list them",
        )
    return found.splitlines()[-1]


def _content(name: str, commit: str, path: Path) -> str:
    text = git.run("show", f"{commit}:./{path.as_posix()}").stdout
    if not text:
        raise InputError(
            f"{path} of {name}", expected="a committed file", found="none", remedy="name a revision that has it"
        )
    return text
