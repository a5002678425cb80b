"""Is a preset's setting the best one near it, by validation: one knob of a trained recommender at a time.

Run: python benchmarks/settings.py --run office-products=FOLDER [--models sasrec gru4rec] [--only "epochs x 2"]

FOLDER holds a project in which the preset has run. Each row trains one recommender with one knob changed, in a
temporary copy that shares all other artifacts, under the seed in params.yaml; the test part is not looked at. Finished
rows are kept: a second call on the same commit adds to them.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import project_copy
from ruamel.yaml import YAML
from side_by_side import RESULTS, commit, machine

FOLDER = RESULTS / "settings"
STAGES = ("train", "featured", "enhance", "finetune")  # whose sections of params.yaml name what they train
STANDING = "as it stands"
TIMES = {"epochs": (0.5, 2), "learning_rate": (0.5, 2), "weight_decay": (0.33, 3)}  # of the loop
SHARES = ("dropout", "item_dropout", "token_dropout", "skip_share")
STEP = 0.15  # up and down, of a share


class Trained(NamedTuple):
    """A recommender that has settings."""

    stage: str
    model: str
    section: str  # of params.yaml, where its settings stand
    settings: dict[str, Any]


class Change(NamedTuple):
    """One knob changed."""

    name: str
    params: dict[str, Any]  # by dotted names


def trained(params: dict[str, Any]) -> Iterator[Trained]:
    """Yield what the preset trains, in the order of the stages."""
    for stage in STAGES:
        for model, settings in params[stage].items():
            section, own = f"{stage}.{model}", settings
            if "model" in settings:
                section, own = f"{section}.model", settings["model"]
            yield Trained(stage, model, section, own)


def changes(one: Trained) -> Iterator[Change]:
    """Yield the setting itself, and then its neighbours: every knob that it names, up and down."""
    yield Change(STANDING, {})
    loop = one.settings["loop"]
    for knob, factors in TIMES.items():
        for factor in factors if loop.get(knob) else ():
            changed = {f"{one.section}.loop.{knob}": _times(loop[knob], factor)}
            if knob == "epochs" and loop.get("patience"):
                changed[f"{one.section}.loop.patience"] = _times(loop["patience"], factor)
            yield Change(f"{knob} x {factor}", changed)
    for knob in SHARES:
        value = one.settings.get(knob)
        for other in () if value is None else (value - STEP, value + STEP):
            if 0 <= round(other, 2) < 1:
                yield Change(f"{knob} {other:.2f}", {f"{one.section}.{knob}": round(other, 2)})
    width = one.settings.get("dimensions")
    for other in (width // 2, width * 2) if width else ():
        yield Change(f"dimensions {other}", {f"{one.section}.dimensions": other})


def _times(value: float, factor: float) -> float:
    return max(1, round(value * factor)) if isinstance(value, int) else round(value * factor, 6)


def measured(project: Path, one: Trained, change: Change) -> dict[str, Any]:
    """Train `one` with `change`; return the best epoch's validation figures."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        project_copy.share(project, copy, one.model)
        project_copy.edit(copy / "params.yaml", change.params)
        began = time.perf_counter()
        project_copy.run(copy, [(one.stage, one.model)], f"{one.model}, {change.name}")
        seconds = round(time.perf_counter() - began, 1)
        with (copy / f"artifacts/recommenders/{one.model}/curves.csv").open() as lines:
            curve = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    best = max(curve, key=lambda row: row["valid_ndcg_at_10"])
    figures = {name: best[name] for name in ("valid_ndcg_at_10", "valid_recall_at_10")}
    return {**figures, "best_epoch": int(best["epoch"]), "epochs": len(curve), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--models", nargs="+", help="by default all that are trained")
    parser.add_argument("--only", nargs="+", help="names of changes")
    options = parser.parse_args()
    name, _, folder = options.run.partition("=")
    project = Path(folder).resolve()
    params = YAML(typ="safe").load((project / "params.yaml").read_text())
    path = FOLDER / f"{name}.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    rows: list[dict[str, Any]] = known["rows"] if known.get("commit") == commit() else []
    done = {(row["model"], row["change"]) for row in rows}
    for one in trained(params):
        if options.models and one.model not in options.models:
            continue
        for change in changes(one):
            if (one.model, change.name) in done or (options.only and change.name not in (STANDING, *options.only)):
                continue
            found = measured(project, one, change)
            rows.append({"model": one.model, "change": change.name, "params": change.params, **found})
            print(f"{one.model}, {change.name}: {found}", flush=True)
            command = f"python {Path(__file__).parent.name}/{Path(__file__).name} --run {name}=FOLDER"
            about = {"run": name, "seed": params["seed"], "rows": rows, "command": command}
            about |= {"machine": machine(params["threads"]), "commit": commit()}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
