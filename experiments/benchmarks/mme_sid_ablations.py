"""The paper's ablations of MME-SID: one thing off at a time, each against the whole, query by query.

Run: python experiments/benchmarks/mme_sid_ablations.py --run embedded=FOLDER [--seeds 42 43 44] [--only whole,codes]
then: python -m experiments.tables docs/ablations.md

FOLDER holds a project in which the preset has run (`dvc repro rank`). `sidflow ablations` makes the same rows in the
project itself, each an experiment of DVC with everything that depends on it; here, for the documents, each row runs
only those stages that it changes (quantize and assign where the quantizer differs) in a temporary copy that shares all
other artifacts. On the test part, expected nDCG@10 where the catalogue knows the truth, else nDCG@10; differences are
paired by user, seeds averaged first, with 95% bootstrap intervals. Finished rows are kept: a second call adds to them.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import project_copy
from finished_run import add_run_option, folder_of, name_of
from ruamel.yaml import YAML
from side_by_side import begun_record, benchmark_parser, commit, keep, machine, record_path

from sidflow.artifacts.evaluation import PER_QUERY
from sidflow.artifacts.split import TEST
from sidflow.cli.ablations import (
    FULL_MODEL,
    MODEL,
    AblationRun,
    ParamChanges,
    ablation_metric,
    ablation_table,
    applicable_rows,
    mean_per_user,
    model_diagnostics,
)
from sidflow.evaluation.params import CompareParams
from sidflow.mme_sid.params import FinetuneParams

QUANTIZER = ("quantize", "assign")
REMADE = ("quantizer", "semantic_ids")  # their folders


def present(project: Path) -> list[str]:
    """Return the modalities that were quantized there."""
    summary = json.loads((project / "artifacts/quantizer/summary.json").read_text())
    return list(summary["modalities"])


def run_ablation(project: Path, changes: ParamChanges, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Run one row; return its diagnostics and seconds, and each user's gain."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        project_copy.share(project, copy, MODEL, copied=(*REMADE, "reports"))
        project_copy.edit(copy / "params.yaml", {**changes, "seed": seed})
        quantized = any(name.startswith("quantize.") for name in changes)
        began = time.perf_counter()
        stages = [(stage,) for stage in QUANTIZER if quantized]
        project_copy.run(copy, [*stages, *((stage, MODEL) for stage in ("finetune", "rank", "evaluate"))], str(changes))
        report = json.loads((copy / f"artifacts/reports/{MODEL}.json").read_text())
        summary = json.loads((copy / f"artifacts/recommenders/{MODEL}/summary.json").read_text())
        tests = pl.read_parquet(copy / PER_QUERY.at(model=MODEL)).filter(pl.col("part") == TEST)
        figures = {
            "metric": ablation_metric(tests),
            **model_diagnostics(report, summary),
            "seconds": round(time.perf_counter() - began, 1),
        }
        return figures, mean_per_user(tests)


class AblationRecord:
    """Finished rows of one preset: `path` has diagnostics and the table, a Parquet file beside it each user's gains."""

    def __init__(self, path: Path) -> None:
        """Take up what was measured on this commit; start anew on another."""
        self.table, self.per_user = path, path.with_suffix(".parquet")
        begun = begun_record(path)
        self.runs: dict[str, dict[str, Any]] = begun.get("runs", {})
        self.gains = pl.read_parquet(self.per_user) if begun else pl.DataFrame()

    def add(self, row: str, seed: int, figures: dict[str, Any], gains: np.ndarray) -> None:
        """Keep a run."""
        self.runs.setdefault(row, {})[str(seed)] = figures
        column = pl.DataFrame({f"{row}, {seed}": gains.astype(np.float32)})
        self.gains = pl.concat([self.gains, column], how="horizontal")

    def write(self, name: str, threads: int) -> None:
        """Write both files."""
        seeds = sorted({int(seed) for one in self.runs.values() for seed in one})
        result = {
            "run": name,
            "metric": next(iter(self.runs[FULL_MODEL].values()))["metric"] if FULL_MODEL in self.runs else None,
            "rows": self._table(),
            "command": f"python experiments/benchmarks/mme_sid_ablations.py --run {name}=FOLDER --seeds "
            + " ".join(map(str, seeds)),
            "machine": machine(threads),
            "commit": commit(),
            "runs": self.runs,
        }
        keep(self.table, result)
        self.gains.write_parquet(self.per_user)

    def _table(self) -> list[dict[str, object]]:
        runs = {
            row: [
                AblationRun(int(seed), self.gains[f"{row}, {seed}"].to_numpy(), figures)
                for seed, figures in seeds.items()
            ]
            for row, seeds in self.runs.items()
        }
        return ablation_table(runs, CompareParams())


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_run_option(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--only", help="rows, commas between them")
    args = parser.parse_args()
    name, project = name_of(args.run), folder_of(args.run)
    kept = AblationRecord(record_path(f"ablations/{name}", replace=args.replace, resumed=True))
    content = YAML(typ="safe").load((project / "params.yaml").read_text())
    threads: int = content["threads"]
    rows = applicable_rows(present(project), FinetuneParams.model_validate(content["finetune"][MODEL]))
    for row in args.only.split(",") if args.only else rows:
        for seed in [seed for seed in args.seeds if str(seed) not in kept.runs.get(row, {})]:
            figures, gains = run_ablation(project, rows[row], seed)
            kept.add(row, seed, figures, gains)
            if not args.dry:
                kept.write(name, threads)
            print(f"{row}, seed {seed}: {np.mean(gains):.4f}, {figures['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
