"""What a preset's runs found: `docs/results/<preset>.json`, made of one record and one rank table per seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sidflow.commands import runs
from sidflow.commands.runs import Run
from sidflow.contracts.artifacts.evaluations import CUTOFFS
from sidflow.contracts.documents import rounded
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.evaluation.refits import refuse_mixture
from sidflow.measures import gains, intervals

FOLDER = Path("docs/results")
DRAWS, BOOTSTRAP_SEED, LEVEL = 2_000, 42, 0.95


def add() -> str:
    """Add the run in the workspace to docs/results and return a line that says so.

    Raises:
        InputError: it is not committed, up to date and measured, or was made with other code, params or data than
            the runs that are there, or is refitted before the test and those of other presets are not.
    """
    new = runs.present()
    preset = str(new.record["preset"])
    others = [run for run in kept(preset) if run.record["seed"] != new.record["seed"]]
    for other in others:
        _refuse_mixture(other, new)
    _refuse_other_presets(new)
    runs.write(new, FOLDER / preset)
    target = FOLDER / f"{preset}.json"
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(summary(kept(preset)), indent=1) + "\n")
    return f"{target} holds seed {', '.join(str(run.record['seed']) for run in kept(preset))}."


def summary(found: list[Run]) -> dict[str, Any]:
    """Return the JSON of one preset: means over users and seeds, intervals over users, seeds averaged first."""
    records = [run.record for run in found]
    first = records[0]
    return {
        "preset": first["preset"],
        "commit": first["commit"],
        "seeds": [record["seed"] for record in records],
        "users": first["users"],
        "items": first["items"],
        "wall_seconds": min(record["wall_seconds"] for record in records),  # what else the machine did only adds
        "peak_memory_mb": max(record["peak_memory_mb"] for record in records),
        "cpus": max(record["cpus"] for record in records),
        "interval": f"{LEVEL:.0%} bootstrap over users, seeds averaged per user first, {DRAWS} draws",
        **({"refit": True} if refitted(found[0]) else {}),
        "recommenders": _metrics(found),
    }


def _metrics(found: list[Run]) -> dict[str, dict[str, Any]]:
    columns = [column.split(".", 1) for column in found[0].ranks.columns if "." in column]
    users = found[0].ranks["user_id"].to_numpy()
    names: list[tuple[str, str]] = []
    per_seed: list[np.ndarray] = []  # one [seeds, q] each, in the order of names
    for model, column in columns:
        table = np.stack([run.ranks[f"{model}.{column}"].to_numpy() for run in found])
        if column == "rank":
            for metric in gains.METRICS:
                for k in CUTOFFS:
                    names.append((model, f"{metric}_at_{k}"))
                    per_seed.append(np.stack([gains.gain(row, metric, k) for row in table]))
        else:
            names.append((model, column))
            per_seed.append(table.astype(np.float64))
    known = [~np.isnan(values).any(axis=0) for values in per_seed]
    result: dict[str, dict[str, Any]] = {}
    masks = {np.asarray(row).tobytes(): np.asarray(row) for row in known}  # without a known truth nothing is expected
    for chosen in masks.values():
        places = [place for place, row in enumerate(known) if np.array_equal(row, chosen)]
        values = np.stack([per_seed[place][:, chosen].mean(axis=0) for place in places], axis=1)
        sampled = intervals.resample(values, users[chosen], DRAWS, BOOTSTRAP_SEED)
        for column, place in enumerate(places):
            model, metric = names[place]
            bounds = intervals.interval(float(sampled.mean[column]), sampled.drawn[:, column], LEVEL)
            result.setdefault(model, {})[metric] = {
                "mean": bounds.mean,
                "low": bounds.low,
                "high": bounds.high,
                "per_seed": [float(row[chosen].mean()) for row in per_seed[place]],
            }
    order = list(dict.fromkeys(model for model, _ in names))
    ordered = {model: {"metrics": dict(sorted(result[model].items()))} for model in order}
    content = rounded(ordered)
    assert isinstance(content, dict)
    return content


def kept(preset: str) -> list[Run]:
    """Return the runs that docs/results keeps of a preset, by seed."""
    return sorted(map(runs.read, (FOLDER / preset).glob("seed-*.json")), key=lambda run: run.record["seed"])


def refitted(run: Run) -> bool:
    """Return whether a run's test queries were answered from fits on training and validation events."""
    return bool(run.record.get("refit"))  # runs of older commits do not say so, and never were


def _refuse_other_presets(new: Run) -> None:
    """Presets stand side by side in one table, and are pooled."""
    preset = str(new.record["preset"])
    others = {path.stem: found for path in sorted(FOLDER.glob("*.json")) if (found := kept(path.stem))}
    known = {name: refitted(found[0]) for name, found in others.items()}
    refuse_mixture(
        known | {preset: refitted(new)},
        str(FOLDER),
        f"set `refit` in params.yaml as it was in the runs that are there, or remove what is in {FOLDER} first",
    )


def _refuse_mixture(old: Run, new: Run) -> None:
    preset = new.record["preset"]
    remedy = (
        f"add runs of one commit and one set of params, or remove {FOLDER / preset}.json and {FOLDER / preset}/ first"
    )
    for name in ("commit", "data", "users", "items"):
        if old.record[name] != new.record[name]:
            raise InputError(
                f"{FOLDER / preset}.json",
                expected=f"runs of one {name}: {str(old.record[name])[:12]}",
                found=str(new.record[name])[:12],
                remedy=remedy,
            )
    differing = sorted(differences(old.record["params"], new.record["params"]))
    if differing:
        raise InputError(
            f"{FOLDER / preset}.json",
            expected="runs of one set of params (but for seed)",
            found="others",
            count=len(differing),
            example=differing[0],
            remedy=remedy,
        )
    keys = ["query_id", "user_id", "candidates"]
    if not old.ranks.select(keys).equals(new.ranks.select(keys)) or old.ranks.columns != new.ranks.columns:
        raise InputError(f"{FOLDER / preset}", expected="the same queries", found="others", remedy=remedy)


def differences(one: Any, other: Any, at: str = "") -> set[str]:
    """Return the dotted names under which two nested documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set().union(
            *(differences(one.get(key), other.get(key), f"{at}.{key}".lstrip(".")) for key in one.keys() | other.keys())
        )
    return set() if one == other else {at}
