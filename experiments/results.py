"""Results of a preset: `experiments/results/presets/<preset>.json`, made from one record and one rank table per seed.

Those of MiniOneRec's protocol are in `experiments/results/minionerec`, so that no table has them beside others.

Run in the project's folder, to record the finished run in artifacts/: python -m experiments.results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs import Run, read_record, read_run, run_of_workspace, write_run
from sidflow.artifacts.evaluation import CUTOFFS, LISTED
from sidflow.cli import presets
from sidflow.core.documents import round_floats
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path
from sidflow.evaluation.compare import paired_bootstrap, require_same_refit
from sidflow.evaluation.metrics import BY_ID, MEAN_LOG2_RANK, values_from_ranks
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.statistics import PairedBootstrap
from sidflow.metrics.ranking import METRICS
from sidflow.sequences.split import SplitParams

FOLDER = Path("experiments/results/presets")
MINIONEREC_FOLDER = Path("experiments/results/minionerec")
MINIONEREC_SPLITS = ("published", "sample_ratio")  # values of `split.method` that are its protocol
BY_ID_SUFFIX = "_by_id"
SAMPLED_PREFIX = "sampled_"
SAMPLED = ("sampled_recall_at_10", "sampled_ndcg_at_10")  # of the second protocol: the target + 100 fixed negatives
SETTINGS = CompareParams()  # records are compared with the defaults, whatever a preset has


def main() -> None:
    """Record the run in the workspace."""
    try:
        print(add_result())
    except InputError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(2)


def add_result() -> str:
    """Add the run in the workspace to experiments/results/presets, or to minionerec beside it.

    Returns:
        A line that says so.

    Raises:
        InputError: the run is not committed, up to date and measured; or it was made with other code, params or data
            than the preset's other runs; or it is refitted before the test and those of other presets are not; or it
            has MiniOneRec's split and not its candidates.
    """
    new = run_of_workspace()
    folder = _protocol_folder(new)
    preset = str(new.record["preset"])
    for other in read_runs(preset, folder):
        if other.record["seed"] != new.record["seed"]:
            _require_same_experiment(other, new, folder)
    _require_same_refit_as_other_presets(new, folder)
    write_run(new, folder / preset)
    target = folder / f"{preset}.json"
    runs = read_runs(preset, folder)
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(summarise(runs), indent=1) + "\n")
    return f"{target} holds seed {', '.join(str(run.record['seed']) for run in runs)}."


def _protocol_folder(run: Run) -> Path:
    """Return where a run is kept: those of MiniOneRec's protocol by themselves.

    Raises:
        InputError: the split is MiniOneRec's, and items of the history are no candidates.
    """
    settings = run.record["params"]
    method = (settings.get("split") or {}).get("method")
    if method not in MINIONEREC_SPLITS:
        return FOLDER
    if settings["rank"]["exclude_history"]:
        raise InputError(
            "params.yaml:rank.exclude_history",
            expected=f"false with split.method: {method}: MiniOneRec, whose published figures such a run stands "
            "beside, ranks the items of the history, too",
            found="true",
            remedy="set rank.exclude_history: false as the preset minionerec-office does (docs/results.md, Published "
            "figures of MiniOneRec's protocol)",
        )
    return MINIONEREC_FOLDER


def preset_names(folder: Path | None = None) -> list[str]:
    """Return the presets that have results in `folder`, by default FOLDER."""
    return sorted(path.stem for path in (folder or FOLDER).glob("*.json"))


def extended_preset(preset: str) -> str | None:
    """Return the nearest preset that one extends and that has results on the same data and split; None without one.

    A preset that extends another stands beside it alone: in tables of all data sets it would count them twice.
    """
    if preset not in presets.names():
        return None
    records = (
        (layer.preset, read_record(path))
        for layer in reversed(presets.layers(preset))
        for path in sorted((FOLDER / layer.preset).glob("seed-*.json"))[:1]
    )
    recorded, own = next(records, ("", {}))
    return next((base for base, record in records if recorded == preset and _same_queries(record, own)), None)


def _same_queries(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    splits = [SplitParams.model_validate(record["params"]["split"]) for record in (one, other)]  # with today's defaults
    return one["data"] == other["data"] and splits[0] == splits[1]


def independent_presets() -> list[str]:
    """Return the presets with results that extend none of the others on its data."""
    return [preset for preset in preset_names() if extended_preset(preset) is None]


def read_runs(preset: str, folder: Path | None = None) -> list[Run]:
    """Return the runs of a preset that `folder` has, by default FOLDER, by seed."""
    return sorted(map(read_run, ((folder or FOLDER) / preset).glob("seed-*.json")), key=lambda run: run.record["seed"])


def is_refitted(run: Run) -> bool:
    """Return whether the models of a run were refitted on training and validation events before the test."""
    return bool(run.record.get("refit"))  # older records lack the entry, and were not refitted


def values_per_seed(runs: Sequence[Run], recommender: str, metric: str) -> np.ndarray | None:
    """Return a metric's value for every seed and query, float64 [seeds, q].

    NaN for a query without a truth where the metric is an expected one. None where the runs lack the recommender, or
    what the metric needs. Where items share IDs, a metric is the mean over the ranks of the tie, and `METRIC_by_id`
    that of the ID. `sampled_METRIC` is that among the target and the fixed negatives.
    """
    expected = metric.startswith("expected")
    by_id = metric.endswith(BY_ID_SUFFIX)
    sampled = SAMPLED_PREFIX if metric.startswith(SAMPLED_PREFIX) else ""
    column = f"{recommender}.{metric if expected else 'id_rank' if by_id else f'{sampled}rank'}"
    columns = runs[0].ranks.columns
    if column not in columns or (metric == MEAN_LOG2_RANK and f"{recommender}.{LISTED}" in columns):
        return None
    rows = [run.ranks[column].to_numpy() for run in runs]
    if expected:
        return np.stack([row.astype(np.float64) for row in rows])
    if by_id:
        return np.stack([values_from_ranks(row, metric.removesuffix(BY_ID_SUFFIX)) for row in rows])
    tie = f"{recommender}.{sampled}sharing"
    shared = [run.ranks[tie].to_numpy() if tie in run.ranks.columns else None for run in runs]
    name = metric.removeprefix(sampled)
    return np.stack([values_from_ranks(row, name, sharing) for row, sharing in zip(rows, shared, strict=True)])


def bootstrap_runs(
    runs: Sequence[Run], columns: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], PairedBootstrap[tuple[str, str]]]:
    """Return the bootstrap that holds each (recommender, metric), seeds averaged per query first.

    Columns that are known for the same queries share one bootstrap, so that they can be compared; those of expected
    metrics are known where there is a truth. What the runs lack is left out.
    """
    values = {
        (recommender, metric): seeds.mean(axis=0)
        for recommender, metric in columns
        if (seeds := values_per_seed(runs, recommender, metric)) is not None
    }
    groups: dict[bytes, dict[tuple[str, str], np.ndarray]] = {}
    for column, column_values in values.items():
        groups.setdefault(np.isnan(column_values).tobytes(), {})[column] = column_values
    users = runs[0].ranks["user_id"].to_numpy()
    bootstraps: dict[tuple[str, str], PairedBootstrap[tuple[str, str]]] = {}
    for group in groups.values():
        present = ~np.isnan(next(iter(group.values())))
        bootstrap = paired_bootstrap({name: one[present] for name, one in group.items()}, users[present], SETTINGS)
        bootstraps |= dict.fromkeys(group, bootstrap)
    return bootstraps


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the JSON of one preset: means over users and seeds, intervals over users, seeds averaged first."""
    records = [run.record for run in runs]
    first = records[0]
    return {
        "preset": first["preset"],
        "commit": first["commit"],
        "seeds": [record["seed"] for record in records],
        "users": first["users"],
        "items": first["items"],
        "wall_seconds": min(record["wall_seconds"] for record in records),  # other load on the machine only adds
        "peak_memory_mb": max(record["peak_memory_mb"] for record in records),
        "cpus": max(record["cpus"] for record in records),
        "interval": f"{SETTINGS.level:.0%} bootstrap over users, seeds averaged per user first, {SETTINGS.draws} draws",
        **({"refit": True} if is_refitted(runs[0]) else {}),
        "recommenders": {
            name: {**metrics, **_costs_of(name, records)} for name, metrics in _metrics_by_recommender(runs).items()
        },
    }


def _costs_of(recommender: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a recommender cost, as the entry `costs`; empty where no record has it.

    Other load on the machine only adds: the shortest times of all seeds, the highest rate, the most memory.
    """
    measured = [record["costs"][recommender] for record in records if record.get("costs", {}).get(recommender)]
    best = {"train_seconds": min, "seconds_with_inputs": min, "users_per_second": max}
    best |= {"peak_memory_mb": max, "peak_gpu_memory_mb": max, "machine": max}
    costs = {
        name: choose(values)
        for name, choose in best.items()
        if (values := [cost[name] for cost in measured if cost[name] is not None])
    }
    return {"costs": round_floats(costs)} if costs else {}


def _metrics_by_recommender(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    ranking = [f"{metric}_at_{k}" for metric in METRICS for k in CUTOFFS]
    columns = []
    of_ranks = {
        "rank": ranking,
        "sharing": [],
        LISTED: [],
        "id_rank": [name + BY_ID_SUFFIX for name in BY_ID],
        "sampled_rank": list(SAMPLED),
        "sampled_sharing": [],
    }
    for name, column in (name.split(".", 1) for name in runs[0].ranks.columns if "." in name):
        columns += [(name, metric) for metric in of_ranks.get(column, [column])]
    recommenders: dict[str, dict[str, Any]] = {name: {} for name, _ in columns}
    for (name, metric), bootstrap in bootstrap_runs(runs, columns).items():
        interval = bootstrap.interval((name, metric))
        seeds = values_per_seed(runs, name, metric)
        assert seeds is not None
        present = ~np.isnan(seeds.mean(axis=0))
        recommenders[name][metric] = {
            "mean": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "per_seed": [float(row[present].mean()) for row in seeds],
        }
    content = round_floats({name: {"metrics": dict(sorted(metrics.items()))} for name, metrics in recommenders.items()})
    assert isinstance(content, dict)
    return content


def _require_same_refit_as_other_presets(new: Run, folder: Path) -> None:
    """Presets stand side by side in one table, and are pooled: all are refitted, or none."""
    refitted = {name: is_refitted(runs[0]) for name in preset_names(folder) if (runs := read_runs(name, folder))}
    require_same_refit(
        refitted | {str(new.record["preset"]): is_refitted(new)},
        str(folder),
        f"set `refit` in params.yaml as it was in the recorded runs, or remove what is in {folder} first",
    )


def _require_same_experiment(old: Run, new: Run, folder: Path) -> None:
    """Two seeds of one preset differ in nothing else."""
    preset = new.record["preset"]
    remedy = (
        f"add runs of one commit and one set of params, or remove {folder / preset}.json and {folder / preset}/ first"
    )
    for name in ("commit", "data", "users", "items"):
        if old.record[name] != new.record[name]:
            raise InputError(
                f"{folder / preset}.json",
                expected=f"runs of one {name}: {str(old.record[name])[:12]}",
                found=str(new.record[name])[:12],
                remedy=remedy,
            )
    differing = sorted(differing_keys(old.record["params"], new.record["params"]))
    if differing:
        raise InputError(
            f"{folder / preset}.json",
            expected="runs of one set of params (but for seed)",
            found="others",
            count=len(differing),
            example=differing[0],
            remedy=remedy,
        )
    keys = ["query_id", "user_id", "candidates"]
    if not old.ranks.select(keys).equals(new.ranks.select(keys)) or old.ranks.columns != new.ranks.columns:
        raise InputError(f"{folder / preset}", expected="the same queries", found="others", remedy=remedy)


def differing_keys(one: Any, other: Any, prefix: str = "") -> set[str]:
    """Return the dotted keys under which two nested documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set().union(
            *(
                differing_keys(one.get(key), other.get(key), f"{prefix}.{key}".lstrip("."))
                for key in one.keys() | other.keys()
            )
        )
    return set() if one == other else {prefix}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
