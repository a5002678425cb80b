"""Is a preset's setting the best one near it, by validation: one knob of a trained recommender at a time.

Run: python experiments/benchmarks/settings.py --run NAME=FOLDER [--models sasrec gru4rec] [--knobs epochs dropout]
then: python -m experiments.tables docs/settings.md

FOLDER holds a project in which the preset has run. Each row trains one recommender with one knob changed, in a
temporary copy that shares all other artifacts, under the seed in params.yaml; the test part is not looked at. Finished
rows are kept: a second call on the same commit adds to them.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import project_copy
from finished_run import add_run_option, folder_of, name_of
from ruamel.yaml import YAML
from side_by_side import begun_record, benchmark_parser, commit, keep, machine, record_path

STAGES = ("train_sequential", "train_multimodal", "finetune")  # whose sections of params.yaml name what they train
TIMES = {"epochs": (0.5, 2), "learning_rate": (0.5, 2), "weight_decay": (0.33, 3)}  # of the loop
SHARES = ("dropout", "item_dropout", "token_dropout", "skip_share")
STEP = 0.15  # up and down, of a share


class TrainedRecommender(NamedTuple):
    """A recommender that has settings."""

    stage: str
    model: str
    section: str  # of params.yaml, where its settings stand
    settings: dict[str, Any]


class Change(NamedTuple):
    """One knob changed; none where the setting is taken as it stands."""

    knob: str | None
    standing: float | str | None
    value: float | str | None
    params: dict[str, Any]  # by dotted names


def trained_recommenders(params: dict[str, Any]) -> Iterator[TrainedRecommender]:
    """Yield what the preset trains, in the order of the stages."""
    for stage in STAGES:
        for model, settings in params[stage].items():
            section, own = f"{stage}.{model}", settings
            if "model" in settings:
                section, own = f"{section}.model", settings["model"]
            yield TrainedRecommender(stage, model, section, own)


def changes(one: TrainedRecommender) -> Iterator[Change]:
    """Yield the setting itself, and then its neighbours: every knob that it names, down and up."""
    yield Change(None, None, None, {})
    loop = one.settings["loop"]
    for knob, factors in TIMES.items():
        for factor in factors if loop.get(knob) else ():
            value = _times(loop[knob], factor)
            changed = {f"{one.section}.loop.{knob}": value}
            if knob == "epochs" and loop.get("patience"):
                changed[f"{one.section}.loop.patience"] = _times(loop["patience"], factor)
            yield Change(knob, loop[knob], value, changed)
    other = "constant" if loop["schedule"] == "cosine" else "cosine"
    yield Change("schedule", loop["schedule"], other, {f"{one.section}.loop.schedule": other})
    for knob in SHARES:
        standing = one.settings.get(knob)
        for value in () if standing is None else (round(standing - STEP, 2), round(standing + STEP, 2)):
            if 0 <= value < 1:
                yield Change(knob, standing, value, {f"{one.section}.{knob}": value})
    width = one.settings.get("dimensions")
    for value in (width // 2, width * 2) if width else ():
        yield Change("dimensions", width, value, {f"{one.section}.dimensions": value})


def _times(value: float, factor: float) -> float:
    return max(1, round(value * factor)) if isinstance(value, int) else round(value * factor, 6)


def train_with_change(project: Path, one: TrainedRecommender, change: Change) -> dict[str, Any]:
    """Train `one` with `change`; return the best epoch's validation figures."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        project_copy.share(project, copy, one.model)
        project_copy.edit(copy / "params.yaml", change.params)
        began = time.perf_counter()
        project_copy.run(copy, [(one.stage, one.model)], f"{one.model}, {change.params}")
        seconds = round(time.perf_counter() - began, 1)
        with (copy / f"artifacts/recommenders/{one.model}/curves.csv").open() as lines:
            curve = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    best = max(curve, key=lambda row: row["valid_ndcg_at_10"])
    figures = {name: best[name] for name in ("valid_ndcg_at_10", "valid_recall_at_10")}
    return {**figures, "best_epoch": int(best["epoch"]), "epochs": len(curve), "seconds": seconds}


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_run_option(parser)
    parser.add_argument("--models", nargs="+", help="by default all that are trained")
    parser.add_argument("--knobs", nargs="+", help="by default all that a setting names")
    args = parser.parse_args()
    name, project = name_of(args.run), folder_of(args.run)
    params = YAML(typ="safe").load((project / "params.yaml").read_text())
    path = record_path(f"settings/{name}", replace=args.replace, resumed=True)
    rows: list[dict[str, Any]] = begun_record(path).get("rows", [])
    done = {(row["model"], row["knob"], row["value"]) for row in rows}
    for one in trained_recommenders(params):
        if args.models and one.model not in args.models:
            continue
        for change in changes(one):
            if args.knobs and change.knob not in (None, *args.knobs):
                continue
            if (one.model, change.knob, change.value) in done:
                continue
            rows.append({"model": one.model, **change._asdict(), **train_with_change(project, one, change)})
            print(rows[-1], flush=True)
            command = f"python experiments/benchmarks/settings.py --run {name}=FOLDER"
            about = {"run": name, "seed": params["seed"], "rows": rows, "command": command}
            about |= {"machine": machine(params["threads"]), "commit": commit()}
            if not args.dry:
                keep(path, about)


if __name__ == "__main__":
    main()
