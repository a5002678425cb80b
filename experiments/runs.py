"""Result records: one run of a preset under one seed, with its params, its cost and the rank of every test target."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sidflow.artifacts.catalog import USERS, core_count
from sidflow.artifacts.evaluation import EXPECTED, LEADERBOARD, LISTED, PER_QUERY
from sidflow.artifacts.recommenders import refit_in
from sidflow.artifacts.split import TEST
from sidflow.cli.costs import recommender_costs
from sidflow.cli.dvc import dag_stages, read_lock
from sidflow.cli.revisions import code_commit, require_up_to_date
from sidflow.cli.slices import slices_of_tests
from sidflow.core import params
from sidflow.core.costs import measured_cost
from sidflow.core.documents import Document
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path

RECORDED_EXPECTED = tuple(name for name in EXPECTED if name.endswith("_at_10"))
SAMPLED_RANKS = ("sampled_rank", "sampled_sharing")  # among the target and fixed negatives; none of a ranking by beam
RANKS = ("rank", "sharing", "id_rank", LISTED, *SAMPLED_RANKS)  # all but the first where a recommender has them
RECORDED_SLICES = ("tail", "cold", "without_text", "without_picture")  # as columns `in_SLICE` of the ranks
# Sections of params.yaml under which older records keep a recommender; its settings are the same.
_RENAMED_SECTIONS = {
    "count": "train_counting",
    "informed": "train_content",
    "train": "train_sequential",
    "featured": "train_multimodal",
    "enhance": "train_multimodal",
}
_QUERY_COLUMNS = ("query_id", "user_id", "candidates")


class Run(NamedTuple):
    """One run as experiments/results/presets keeps it: the record as JSON, the ranks as Parquet."""

    record: dict[str, Any]
    # query_id, user_id, candidates, in_SLICE, and RECOMMENDER.rank of every recommender; where items share IDs also
    # RECOMMENDER.sharing and .id_rank, of one that ranks by beam .listed, of others .sampled_rank. Older records lack
    # what came later.
    ranks: pl.DataFrame


def run_of_workspace() -> Run:
    """Return the run that lies in the workspace.

    Raises:
        InputError: something is not committed, not up to date, or was not measured.
    """
    settings = params.load_params()
    stages = dag_stages(settings)
    commit = code_commit()
    require_up_to_date()
    costs = {stage.name: _stage_cost(stage.name) for stage in stages}
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
        "costs": {name: cost._asdict() for name, cost in recommender_costs(settings).items()},
        "data": _data_hash(settings),
        "params": _params_without_seed_and_path(settings),
        "refit": any(refit_in(PER_QUERY.metadata(model=name)) for name in settings["recommenders"]),
    }
    return Run(record, _rank_table(settings["recommenders"]))


def read_run(path: Path) -> Run:
    """Return a run from its JSON file and the Parquet file beside it, its params under today's section names.

    Raises:
        InputError: the JSON is broken, or the ranks are absent.
    """
    ranks = path.with_suffix(".parquet")
    if not ranks.is_file():
        raise InputError(
            str(ranks),
            expected=f"the ranks that belong to {path.name}",
            found="no such file",
            remedy=f"bring it back (`git checkout {ranks}`), or remove {path} and add that run again",
        )
    return Run(read_record(path), pl.read_parquet(ranks))


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a run without its ranks, its params under today's section names.

    Raises:
        InputError: the JSON is broken.
    """
    record = Document(str(path)).read()
    return record | {"params": with_current_names(record["params"])}


def with_current_names(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded params under today's names: sections of training, and two knobs."""
    current = {name: value for name, value in recorded.items() if name not in _RENAMED_SECTIONS}
    for old, new in _RENAMED_SECTIONS.items():
        for recommender, settings in recorded.get(old, {}).items():
            section = "train_counting" if recommender == "oracle" else new
            current[section] = current.get(section, {}) | {recommender: settings}
    if "known_from" in current.get("assign", {}):
        assign = dict(current["assign"])
        current["assign"] = {"frozen_ids_from": assign.pop("known_from"), **assign}
    if "finetune" in current:
        current["finetune"] = {name: _with_part_weights(settings) for name, settings in current["finetune"].items()}
    return current


def _with_part_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of MME-SID with `part_weights` in place of the older `frequency_aware`."""
    renamed = dict(settings)
    if "frequency_aware" in renamed:
        renamed["part_weights"] = "frequency" if renamed.pop("frequency_aware") else "equal"
    return renamed


def write_run(run: Run, folder: Path) -> Path:
    """Write `seed-<seed>.parquet` and then `.json` into `folder`; a run without its JSON does not count.

    Returns:
        The path of the JSON file.
    """
    path = folder / f"seed-{run.record['seed']}.json"
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        run.ranks.write_parquet(temporary, compression="zstd", compression_level=19, statistics=False)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(run.record, indent=1, sort_keys=True) + "\n")
    return path


def _stage_cost(stage: str) -> dict[str, Any]:
    cost = measured_cost(stage)
    if cost is None:
        raise InputError(
            f"cost of stage {stage}",
            expected="time and memory, measured on this machine",
            found="none: its outputs came from a cache, and no run here wrote them",
            remedy="`dvc repro -f` runs and measures every stage",
        )
    return {name: value for name, value in cost.items() if name not in ("stage", "outputs")}


def _params_without_seed_and_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name != "seed"}
    kept["ingest"] = {name: value for name, value in dict(settings["ingest"]).items() if name != "path"}
    return json.loads(json.dumps(kept))


def _data_hash(settings: Mapping[str, Any]) -> str:
    """Return the hash of the raw data, as DVC locked it."""
    path = str(settings["ingest"]["path"])
    for dep in read_lock().get("ingest", {}).get("deps", []):
        if dep["path"] == path or Path(dep["path"]).resolve() == Path(path).resolve():
            return str(dep.get("md5"))
    raise InputError(
        "dvc.lock", expected=f"the hash of {path} under stage ingest", found="none", remedy="`dvc repro ingest`"
    )


def _rank_table(recommenders: Sequence[str]) -> pl.DataFrame:
    """Return the test ranks, and the expected metrics that are known, of all recommenders side by side, and slices."""
    joined: pl.DataFrame | None = None
    for name in recommenders:
        table = PER_QUERY.read(model=name).filter(pl.col("part") == TEST)
        table = table.with_columns(pl.col(column).cast(pl.Float32) for column in RECORDED_EXPECTED)
        expected = [column for column in RECORDED_EXPECTED if table[column].is_not_null().any()]
        absent = SAMPLED_RANKS if LISTED in table.columns else ()
        ranks = [column for column in RANKS if column in table.columns and column not in absent]
        columns = {f"{name}.{column}": table[column] for column in (*ranks, *expected)}
        joined = (table.select(_QUERY_COLUMNS) if joined is None else joined).with_columns(**columns)
    if joined is None or joined.is_empty():
        raise InputError("artifacts/evaluations", expected="test queries", found="none", remedy="`dvc repro`")
    slices = slices_of_tests(RECORDED_SLICES)
    return joined.with_columns(**{f"in_{name}": pl.Series(mask) for name, mask in slices.items()})
