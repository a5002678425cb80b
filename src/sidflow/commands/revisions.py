"""What a revision measured: params and lock from git, results per query from the cache; the workspace is only read."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sidflow.commands import dvc, git
from sidflow.contracts import params
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


def workspace() -> Revision:
    """Return what lies in artifacts/.

    Raises:
        InputError: a recommender that params name was not evaluated.
    """
    settings = params.load_all()
    tables = {name: PER_QUERY.read(COLUMNS, model=name) for name in settings.get("recommenders") or []}
    return _revision(WORKSPACE, "", settings, tables)


def committed(name: str) -> Revision:
    """Return what a commit, a branch, a tag or an experiment of DVC measured.

    Args:
        name: what git or `dvc exp show` calls it.

    Raises:
        InputError: there is no such revision, its lock has no evaluations, or the cache does not hold them.
    """
    commit = _commit(name)
    with tempfile.TemporaryDirectory(prefix="sidflow-compare-") as folder:
        files = {path: Path(folder) / path for path in (params.PATH, dvc.LOCK)}
        for path, copy in files.items():
            copy.write_text(_content(name, commit, path))
        settings, outs = params.load_all(files[params.PATH]), dvc.locked_outs(files[dvc.LOCK])
    locked = {Path(out.path): out.md5 for out in outs}
    folders = {model: PER_QUERY.at(model=model).parent for model in settings.get("recommenders") or []}
    found = {model: locked[path] for model, path in folders.items() if path in locked}
    if not found:
        raise InputError(
            f"{dvc.LOCK} of {name}",
            expected="evaluated recommenders",
            found="none",
            remedy=f"name a revision whose `dvc repro` finished; `git log -- {dvc.LOCK}` lists candidates",
        )
    cache = dvc.cache_folder()
    paths = {model: _table(cache, md5) if cache else None for model, md5 in found.items()}
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
    tables = {
        model: dataclasses.replace(PER_QUERY, path=str(path)).read(COLUMNS) for model, path in paths.items() if path
    }
    return _revision(name, commit, settings, tables)


def _revision(name: str, commit: str, settings: dict, tables: dict[str, pl.DataFrame]) -> Revision:
    tests = {model: table.filter(pl.col("part") == TEST) for model, table in tables.items()}
    return Revision(name, commit, str(settings.get("preset")), tests)


def _table(cache: Path, md5: str) -> Path | None:
    """Return where the cache holds the table of an evaluation's folder, or None where it does not."""
    md5 = (dvc.listing(cache, md5) or {}).get(Path(PER_QUERY.path).name, "")
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
