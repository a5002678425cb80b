"""One run of a preset under one seed: what it was made with, what it cost, and the rank of every test target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sidflow.commands import dag, dvc, git
from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.evaluations import EXPECTED, LEADERBOARD, PER_QUERY
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.artifacts.queries import TEST
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.documents import Document
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.contracts.running import measured_path

CODE = ("src", "stages", "dvc.yaml")
KEPT_EXPECTED = tuple(name for name in EXPECTED if name.endswith("_at_10"))
_KEYS = ("query_id", "user_id", "candidates")


class Run(NamedTuple):
    """What docs/results keeps of one run: the record as JSON, the ranks as Parquet."""

    record: dict[str, Any]
    ranks: pl.DataFrame


def present() -> Run:
    """Return the run that lies in the workspace.

    Raises:
        InputError: something is not committed, not up to date, or was not measured.
    """
    settings = params.load_all()
    stages = dag.stages(settings)
    commit = code_commit()
    require_up_to_date()
    costs = {stage.name: _cost(str(settings["preset"]), stage.name) for stage in stages}
    record = {
        "preset": settings["preset"],
        "seed": settings["seed"],
        "commit": commit,
        "users": USERS.read().height,
        "items": core_count(),
        "best_baseline": LEADERBOARD.read()["best_baseline"],
        "wall_seconds": round(sum(cost["wall_seconds"] for cost in costs.values()), 1),
        "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs.values()),
        "cpus": max(cost["cpus"] for cost in costs.values()),
        "stages": costs,
        "data": _data(settings),
        "params": _comparable(settings),
        "refit": any(refits.of(PER_QUERY.metadata(model=name)) for name in settings["recommenders"]),
    }
    return Run(record, _ranks(settings["recommenders"]))


def code_commit() -> str:
    """Return the last commit that changed code; a commit of documents leaves it as it is.

    Raises:
        InputError: code differs from the commit, or there is none.
    """
    changed = _git("status", "--porcelain", "--", *CODE).splitlines()
    if changed:
        raise InputError(
            "the working tree",
            expected=f"{', '.join(CODE)} as committed, so that a result names its code",
            found="uncommitted changes",
            count=len(changed),
            example=changed[0].split()[-1],
            remedy="commit, `dvc repro`, then add the results",
        )
    return _git("log", "-1", "--format=%H", "--", *CODE).strip()


def require_up_to_date(*targets: str) -> None:
    """Ask DVC whether the artifacts are those of the present code, params and data.

    Args:
        targets: stages that count, with all before them; every stage if there are none.

    Raises:
        InputError: they are not.
    """
    told = dvc.run("status", "--json", *targets)
    stale = json.loads(told.stdout or "null") if told.returncode == 0 else None
    if stale is None or stale:
        raise InputError(
            "artifacts",
            expected="what the present code, params and data make",
            found="stages that are out of date" if stale else f"dvc status failed: {told.stderr.strip()[-200:]}",
            count=len(stale) if stale else None,
            example=next(iter(stale)) if stale else None,
            remedy="`dvc repro`",
        )


def read(path: Path) -> Run:
    """Read what `write` wrote; `path` is the JSON file.

    Raises:
        InputError: it is broken, or the ranks beside it are absent.
    """
    ranks = path.with_suffix(".parquet")
    if not ranks.is_file():
        raise InputError(
            str(ranks),
            expected=f"the ranks that belong to {path.name}",
            found="no such file",
            remedy=f"bring it back (`git checkout {ranks}`), or remove {path} and add that run again",
        )
    return Run(Document(str(path)).read(), pl.read_parquet(ranks))


def write(run: Run, folder: Path) -> Path:
    """Write `seed-<seed>.json` and `.parquet` into `folder`, the JSON last: it is what says that the run is there."""
    path = folder / f"seed-{run.record['seed']}.json"
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        run.ranks.write_parquet(temporary, compression="zstd", compression_level=19, statistics=False)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(run.record, indent=1, sort_keys=True) + "\n")
    return path


def _cost(preset: str, stage: str) -> dict[str, Any]:
    path = measured_path(preset, stage)
    if not path.is_file():
        raise InputError(
            str(path),
            expected=f"what stage {stage} took",
            found="no such file: it was restored from a cache, not run here",
            remedy="`dvc repro -f` runs and measures every stage",
        )
    cost = Document(str(path)).read()
    return {name: cost[name] for name in ("wall_seconds", "peak_memory_mb", "cpus")}


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params but for the seed and for where the data lie."""
    kept = {name: value for name, value in settings.items() if name != "seed"}
    kept["ingest"] = {name: value for name, value in dict(settings["ingest"]).items() if name != "path"}
    return json.loads(json.dumps(kept))


def _data(settings: Mapping[str, Any]) -> str:
    """Return the hash of the raw data, as DVC locked it."""
    path = str(settings["ingest"]["path"])
    for dep in dvc.lock().get("ingest", {}).get("deps", []):
        if dep["path"] == path or Path(dep["path"]).resolve() == Path(path).resolve():
            return str(dep.get("md5"))
    raise InputError(
        "dvc.lock", expected=f"the hash of {path} under stage ingest", found="none", remedy="`dvc repro ingest`"
    )


def _ranks(recommenders: list[str]) -> pl.DataFrame:
    joined: pl.DataFrame | None = None
    for name in recommenders:
        table = PER_QUERY.read(model=name).filter(pl.col("part") == TEST)
        table = table.with_columns(pl.col(column).cast(pl.Float32) for column in KEPT_EXPECTED)
        known = [column for column in KEPT_EXPECTED if table[column].is_not_null().any()]
        columns = {f"{name}.{column}": table[column] for column in ("rank", *known)}
        joined = (table.select(_KEYS) if joined is None else joined).with_columns(**columns)
    if joined is None or joined.is_empty():
        raise InputError("artifacts/evaluations", expected="test queries", found="none", remedy="`dvc repro`")
    return joined


def _git(*arguments: str) -> str:
    ran = git.run(*arguments)
    if ran.returncode or not (ran.stdout or arguments[0] == "status"):
        raise InputError(
            "git",
            expected="a repository whose code is committed",
            found=ran.stderr.strip() or "no commit of it",
            remedy="`git add` and `git commit` the project, `dvc repro`, then add the results",
        )
    return ran.stdout
