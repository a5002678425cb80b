"""Every method of semantic IDs, ours and published ones, under one audit.

Run: python experiments/benchmarks/quantizer_methods.py --run office-products=FOLDER --run movielens-posters=FOLDER \
    --run embedded=FOLDER --index "LETTER, Beauty=FILE" --index "MiniOneRec, Office=FILE"
then: python -m experiments.tables docs/semantic_ids.md

FOLDER holds a project in which the preset has run (`dvc repro assign`); FILE is a published .index.json. One thread;
the figures do not depend on load, the seconds do.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side  # puts `experiments` on the path
from experiments.index_file import read_index_file
from finished_run import add_run_option
from quantizer_common import Run, audit, concatenate, load, train

from sidflow.semantic_ids.quality import code_metrics, collision_metrics

CONCATENATED = "rq-vae, concatenated"
METHODS: dict[str, dict[str, Any]] = {  # what differs from params' defaults
    "mm-rq-vae": {},
    "mm-rq-vae, rotation": {"gradient": "rotation"},
    "mm-rq-vae, per_level": {"gradient": "per_level"},
    "mm-rq-vae, neither refined nor parted": {"refine_steps": 0, "separate_steps": 0},
    "rq-vae": {"method": "rq-vae"},
    CONCATENATED: {"method": "rq-vae"},
    "rq-kmeans": {"method": "rq-kmeans", "initialisation": "kmeans"},
    "rq-kmeans, balanced": {"method": "rq-kmeans", "initialisation": "balanced-kmeans"},
}
KEPT = {
    "items": "items",
    "collisions": "collision_rate_distinct",
    "recall": "neighbour_recall_at_10",
    "tau": "tau",
    "tau_triples": "tau_triples",
    "error": "reconstruction_error",
}


def rows_of(run: Run, method: str, seeds: list[int], epochs: int | None) -> list[dict[str, Any]]:
    """Train and audit one method on all modalities of a run; figures are means over seeds."""
    overrides = dict(METHODS[method])
    if epochs is not None:
        overrides["loop"] = {"epochs": epochs, "patience": 0, "learning_rate": 3e-4, "weight_decay": 1e-4}
    modalities = concatenate(run.modalities) if method == CONCATENATED else run.modalities
    per_seed: dict[str, list[dict[str, float]]] = {name: [] for name in modalities}
    seconds, codes = 0.0, {}
    for seed in seeds:
        began = time.perf_counter()
        result = train(modalities, overrides, seed)
        seconds += (time.perf_counter() - began) / len(seeds)
        described: Any = result.metadata["modalities"]
        codes = {name: "x".join(map(str, described[name]["codes"])) for name in modalities}
        for name, figures in audit(result, modalities, run.tau_queries).items():
            lowest = min(value for key, value in figures.items() if key.startswith("code_usage_"))
            per_seed[name].append({"usage": lowest, **{key: figures[full] for key, full in KEPT.items()}})
    return [
        {
            "method": method,
            "modality": name,
            "codes": codes[name],
            "seeds": len(seeds),
            "seconds": round(seconds, 1),
            **{key: round(float(np.mean([one[key] for one in each])), 4) for key in each[0]},
            "collisions_most": round(max(one["collisions"] for one in each), 4),
        }
        for name, each in per_seed.items()
    ]


def published(argument: str) -> dict[str, Any]:
    """Audit NAME=FILE. Without vectors there is no recall, no tau, and no knowing which inputs are distinct."""
    name, _, file = argument.rpartition("=")
    codes = read_index_file(Path(file)).codes
    counts = [256] * codes.shape[1]
    figures = code_metrics(codes, counts, "text") | collision_metrics(codes, "text")
    usage = min(value for key, value in figures.items() if key.startswith("code_usage_"))
    row = {"method": f"{name} (published)", "modality": "text", "codes": "x".join(map(str, counts))}
    return {
        **row,
        "items": len(codes),
        "usage": round(usage, 4),
        "collisions_all": round(figures["collision_rate_text"], 4),
    }


def write_rows(name: str, rows: list[dict[str, Any]], command: str, args: argparse.Namespace) -> None:
    about = {"command": command, "machine": side_by_side.machine(threads=1), "commit": side_by_side.commit()}
    side_by_side.write(f"quantizer/{name}", {"run": name, "rows": rows, **about}, args.dry, replace=args.replace)


def main() -> None:
    parser = side_by_side.benchmark_parser(__doc__)
    add_run_option(parser, action="append", default=[], required=False)
    parser.add_argument("--index", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of training; default: as params")
    args = parser.parse_args()
    for argument in args.run:
        run, rows = load(argument), []
        for method in args.methods:
            rows += rows_of(run, method, list(range(42, 42 + args.seeds)), args.epochs)
            for row in rows[-len(run.modalities) :]:
                print(json.dumps({"run": run.name, **row}), flush=True)
        command = f"python experiments/benchmarks/quantizer_methods.py --run {run.name}=FOLDER --seeds {args.seeds}"
        write_rows(run.name, rows, command, args)
    if args.index:
        rows = [published(one) for one in args.index]
        write_rows("published", rows, "python experiments/benchmarks/quantizer_methods.py --index NAME=FILE", args)


if __name__ == "__main__":
    main()
