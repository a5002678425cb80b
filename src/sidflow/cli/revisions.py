"""The results of a revision, read only: params and lock from git, results per query from DVC's cache.

Also whether the workspace's results belong to committed code and are up to date.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sidflow.artifacts.evaluation import LISTED, PER_QUERY, SHARED_IDS
from sidflow.artifacts.recommenders import refit_in
from sidflow.artifacts.split import TEST
from sidflow.cli.dvc import (
    LOCK_PATH,
    cached_listing,
    cached_object,
    dvc_cache_folder,
    git_output,
    is_cached,
    locked_outs,
    run_dvc,
    run_git,
)
from sidflow.core import params
from sidflow.core.errors import InputError, closest_names

COLUMNS = [
    *("query_id", "user_id", "part", "rank", "candidates", "sampled_rank", "tied", "history_length", "target_count"),
    *("expected_recall_at_10", "expected_ndcg_at_10"),
    *(*SHARED_IDS, LISTED),  # where items share IDs, and where a recommender ranks by beam
]
WORKSPACE = "workspace"
CODE = ("src", "stages", "dvc.yaml")


class Revision(NamedTuple):
    """The test results of one state of the project."""

    name: str  # as the user typed it, or WORKSPACE
    commit: str  # its full hash; empty for the workspace
    preset: str
    tests: dict[str, pl.DataFrame]  # COLUMNS of the test queries by recommender, in the order of params
    refits: Mapping[str, bool | None] = {}  # which recommenders were refitted before the test

    @property
    def title(self) -> str:
        """The name with the first digits of the commit."""
        short = self.commit[:8]
        return self.name if not short or self.name.startswith(short) else f"{self.name} ({short})"


def read_workspace(models: Sequence[str] | None = None) -> Revision:
    """Return the results that lie in artifacts/.

    Args:
        models: recommenders; all that params name if absent.

    Raises:
        InputError: params do not name one of them, or it was not evaluated.
    """
    settings = params.load_params()
    listed = settings.get("recommenders") or []
    for name in models or ():
        if name not in listed:
            expected = closest_names(name, listed)
            raise InputError("params.yaml:recommenders", expected=expected, found=repr(name), remedy="name one of them")
    tables = {name: PER_QUERY.read(COLUMNS, model=name) for name in models or listed}
    metadata = {name: PER_QUERY.metadata(model=name) for name in tables}
    return _revision(WORKSPACE, "", settings, tables, metadata)


def read_revision(name: str, models: Sequence[str] | None = None) -> Revision:
    """Return the results of a commit, a branch, a tag or an experiment of DVC.

    Args:
        name: as git or `dvc exp show` names it.
        models: recommenders; all that its params name if absent.

    Raises:
        InputError: there is no such revision, its lock has no evaluations, or the cache does not hold them.
    """
    commit = _commit_of(name)
    settings, locked = _params_and_lock(name, commit)
    paths = {model: PER_QUERY.at(model=model) for model in models or settings.get("recommenders") or []}
    evaluated = {model: path for model, path in paths.items() if path.parent in locked}
    if not evaluated:
        raise InputError(
            f"{LOCK_PATH} of {name}",
            expected="evaluated recommenders",
            found="none",
            remedy=f"name a revision whose `dvc repro` finished; `git log -- {LOCK_PATH}` lists candidates",
        )
    cache = dvc_cache_folder()
    cached = {model: _path_in_cache(cache, locked, path) for model, path in evaluated.items()}
    absent = [model for model, path in cached.items() if path is None]
    if absent:
        raise InputError(
            "DVC's cache",
            expected=f"the results per query of {name}",
            found="recommenders without them",
            count=len(absent),
            example=absent[0],
            remedy=f"`dvc fetch --all-commits` from a remote that has them, or `dvc repro` in a clone at {commit[:10]}",
        )
    files = {model: dataclasses.replace(PER_QUERY, path=str(path)) for model, path in cached.items()}
    tables = {model: file.read(COLUMNS) for model, file in files.items()}
    return _revision(name, commit, settings, tables, {model: file.metadata() for model, file in files.items()})


def cached_file(name: str, path: Path) -> Path:
    """Return where DVC's cache holds the content that `path` had in a revision.

    Args:
        name: of the revision, as for `read_revision`.
        path: of an out, or of a file in one.

    Raises:
        InputError: there is no such revision, or the cache does not hold the file.
    """
    cached = _path_in_cache(dvc_cache_folder(), _params_and_lock(name, _commit_of(name))[1], path)
    if cached is None:
        raise InputError(
            "DVC's cache", expected=f"{path} of {name}", found="none", remedy="`dvc fetch` from a remote that has it"
        )
    return cached


def code_commit() -> str:
    """Return the last commit that changed code; commits of documents alone do not count.

    Raises:
        InputError: the code differs from the commit, or there is no commit.
    """
    changed = git_output("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        raise InputError(
            "the working tree",
            expected=f"{', '.join(CODE)} as committed, so that a result names its code",
            found="uncommitted changes",
            count=len(changed),
            example=changed[0].split()[-1],
            remedy="commit, then `dvc repro`",
        )
    commit = run_git("log", "-1", "--format=%H", "--", *CODE).stdout.strip()
    if not commit:
        raise InputError(
            "git",
            expected="a repository whose code is committed",
            found="no commit of it",
            remedy="`git add` and `git commit` the project, then `dvc repro`",
        )
    return commit


def require_up_to_date(*targets: str) -> None:
    """Make sure that the artifacts are those of the present code, params and data, as DVC has it.

    Args:
        targets: stages to check, with all before them; every stage if there are none.

    Raises:
        InputError: a stage is out of date, or DVC failed.
    """
    status = run_dvc("status", "--json", *targets)
    stale = json.loads(status.stdout or "null") if status.returncode == 0 else None
    if stale is None or stale:
        raise InputError(
            "artifacts",
            expected="the outputs of the present code, params and data",
            found="stages that are out of date" if stale else f"dvc status failed: {status.stderr.strip()[-200:]}",
            count=len(stale) if stale else None,
            example=next(iter(stale)) if stale else None,
            remedy="`dvc repro`",
        )


def _params_and_lock(name: str, commit: str) -> tuple[dict, dict[Path, str]]:
    """Return a revision's params, and the hash of every out that its lock names."""
    with tempfile.TemporaryDirectory(prefix="sidflow-compare-") as folder:
        files = {path: Path(folder) / path for path in (params.PARAMS_PATH, LOCK_PATH)}
        for path, copy in files.items():
            copy.write_text(_committed_text(name, commit, path))
        outs = locked_outs(files[LOCK_PATH])
        return params.load_params(files[params.PARAMS_PATH]), {Path(out.path): out.md5 for out in outs}


def _revision(
    name: str,
    commit: str,
    settings: dict,
    tables: Mapping[str, pl.DataFrame],
    metadata: Mapping[str, dict[str, object]],
) -> Revision:
    tests = {model: table.filter(pl.col("part") == TEST) for model, table in tables.items()}
    refitted = {model: refit_in(fields) for model, fields in metadata.items()}
    return Revision(name, commit, str(settings.get("preset")), tests, refitted)


def _path_in_cache(cache: Path | None, locked: Mapping[Path, str], path: Path) -> Path | None:
    """Return where the cache holds an out, or a file in one; None where it does not."""
    out = next((parent for parent in (path, *path.parents) if parent in locked), None)
    if cache is None or out is None:
        return None
    relative_path = path.relative_to(out).as_posix()
    md5 = locked[out] if out == path else (cached_listing(cache, locked[out]) or {}).get(relative_path, "")
    return cached_object(cache, md5) if is_cached(cache, md5) else None


def _commit_of(name: str) -> str:
    """Return the commit that git, or DVC's list of experiments, has under that name."""
    commits = run_git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").stdout.strip()
    commits = commits or run_git("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}").stdout.strip()
    if not commits:
        raise InputError(
            "REV",
            expected="a commit, branch, tag or experiment",
            found=repr(name),
            remedy="`git log --oneline` and `dvc exp show` list them",
        )
    return commits.splitlines()[-1]


def _committed_text(name: str, commit: str, path: Path) -> str:
    text = run_git("show", f"{commit}:./{path.as_posix()}").stdout
    if not text:
        raise InputError(
            f"{path} of {name}", expected="a committed file", found="none", remedy="name a revision that has it"
        )
    return text
