"""The paper's ablations of MME-SID: one thing off at a time, each against the whole, query by query.

Run: python benchmarks/mme_sid_ablations.py --run embedded=FOLDER [--seeds 42 43 44] [--only whole,codes]
then: sidflow results table --write docs/ablations.md

FOLDER holds a project in which the preset has run (`dvc repro rank`). Each row runs the pipeline's own stages (those
that it changes: quantize and assign only where the quantizer differs) in a temporary copy that shares all other
artifacts. On the test part, expected nDCG@10 where the catalogue knows the truth, else nDCG@10; differences are
paired by user, seeds averaged first, with 95% bootstrap intervals. Finished rows are kept: a second call adds to them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from ruamel.yaml import YAML
from side_by_side import RESULTS, ROOT, commit, machine

from sidflow.measures.intervals import Difference, difference, resample

FOLDER = RESULTS / "ablations"
MODEL = "mme_sid"
WHOLE = "whole"
DRAWS, SEED = 2000, 42  # of the bootstrap
QUANTIZER = ("quantize", "assign")
ROWS: dict[str, dict[str, Any]] = {  # what each row changes in params.yaml, dots between sections
    WHOLE: {},
    "without collaborative": {"finetune.mme_sid.without": ["collaborative"]},
    "without text": {"finetune.mme_sid.without": ["text"]},
    "without image": {"finetune.mme_sid.without": ["image"]},
    "without codes": {"finetune.mme_sid.codes": False},
    "without raw rows": {"finetune.mme_sid.raw": False},
    "codebooks at random": {"finetune.mme_sid.codebook_init": "random"},
    "without alignment": {"quantize.alignment": "none"},
    "without MMD": {"quantize.reconstruction": "mse"},
    "without frequency-aware fusion": {"finetune.mme_sid.frequency_aware": False},
    "without LoRA": {"finetune.mme_sid.lora.enabled": False},
    "item tokens four times as large": {"finetune.mme_sid.token_scale": 4.0, "finetune.mme_sid.lora.alpha": 32},
    "collaborative rows alone": {
        "finetune.mme_sid.without": ["text", "image"],
        "finetune.mme_sid.codes": False,
    },
}
DIAGNOSTICS = ("valid_ndcg_at_10", "effective_rank", "alive_share", "tau_of_codes")


def usable(changes: dict[str, Any], modalities: list[str]) -> bool:
    """Tell whether a row means anything where only `modalities` exist."""
    without = changes.get("finetune.mme_sid.without", [])
    return not without or (set(without) & set(modalities) != set() and set(modalities) - set(without) != set())


def present(project: Path) -> list[str]:
    """Return the modalities that were quantized there."""
    summary = json.loads((project / "artifacts/quantizer/summary.json").read_text())
    return list(summary["modalities"])


def measured(project: Path, changes: dict[str, Any], seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Run one row; return its diagnostics and seconds, and each user's gain."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _share(project, copy)
        _edit(copy / "params.yaml", {**changes, "seed": seed}, present(project))
        stages = [*QUANTIZER] if any(name.startswith("quantize.") for name in changes) else []
        began = time.perf_counter()
        for stage in [*stages, "finetune", "rank", "evaluate"]:
            arguments = [] if stage in QUANTIZER else [MODEL]
            environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SIDFLOW_CACHE": str(copy / "cache")}
            done = subprocess.run(
                [sys.executable, str(ROOT / f"stages/{stage}.py"), *arguments],
                cwd=copy,
                env=environment,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(f"{stage} failed:\n{done.stderr[-2000:]}")
        report = json.loads((copy / f"artifacts/reports/{MODEL}.json").read_text())
        summary = json.loads((copy / f"artifacts/recommenders/{MODEL}/summary.json").read_text())
        rows = pl.read_parquet(copy / f"artifacts/evaluations/{MODEL}/per_query.parquet").filter(
            pl.col("part") == "test"
        )
        known = rows["expected_ndcg_at_10"].is_not_null().all()
        rank = rows["rank"].to_numpy()
        gained = rows["expected_ndcg_at_10"].to_numpy() if known else np.where(rank <= 10, 1 / np.log2(rank + 1.0), 0)
        per_user = (
            rows.select("user_id").with_columns(gain=pl.Series(gained)).group_by("user_id").mean().sort("user_id")
        )
        taus = [modality["tau_finetuned"] for modality in summary["forgetting"].values()]
        found = {
            "metric": "expected_ndcg_at_10" if known else "ndcg_at_10",
            "valid_ndcg_at_10": summary["valid_ndcg_at_10"],
            "effective_rank": report.get("item_table_effective_rank"),
            "alive_share": report.get("item_table_alive_share"),
            "tau_of_codes": float(np.mean(taus)) if taus else None,
            "seconds": round(time.perf_counter() - began, 1),
        }
        return found, per_user["gain"].to_numpy()


class Kept:
    """Finished rows of one preset: PATH.json has diagnostics and the table, PATH.parquet each user's gain per run."""

    def __init__(self, path: Path) -> None:
        """Take up what was measured on this commit; start anew on another."""
        self.table, self.per_user = path.with_suffix(".json"), path.with_suffix(".parquet")
        known: dict[str, Any] = json.loads(self.table.read_text()) if self.table.is_file() else {}
        same = known.get("commit") == commit()
        self.runs: dict[str, dict[str, Any]] = known["runs"] if same else {}
        self.gains = pl.read_parquet(self.per_user) if same else pl.DataFrame()

    def add(self, row: str, seed: int, found: dict[str, Any], gains: np.ndarray) -> None:
        """Keep a run."""
        self.runs.setdefault(row, {})[str(seed)] = found
        column = pl.DataFrame({f"{row}, {seed}": gains.astype(np.float32)})
        self.gains = pl.concat([self.gains, column], how="horizontal")

    def write(self, name: str, threads: int) -> None:
        """Write both files."""
        seeds = sorted({int(seed) for one in self.runs.values() for seed in one})
        result = {
            "run": name,
            "metric": next(iter(self.runs[WHOLE].values()))["metric"] if WHOLE in self.runs else None,
            "rows": [self._row(row) for row in self.runs],
            "command": f"python {Path(__file__).parent.name}/{Path(__file__).name} --run {name}=FOLDER --seeds "
            + " ".join(map(str, seeds)),
            "machine": machine(threads),
            "commit": commit(),
            "runs": self.runs,
        }
        self.table.parent.mkdir(parents=True, exist_ok=True)
        self.table.write_text(json.dumps(result, indent=1) + "\n")
        self.gains.write_parquet(self.per_user)

    def _row(self, name: str) -> dict[str, Any]:
        """Return a row's mean, its difference from the whole with an interval, diagnostics averaged over seeds."""
        runs = list(self.runs[name].values())
        row: dict[str, Any] = {"row": name, "seeds": len(runs), "mean": float(self._mean(name).mean())}
        if name != WHOLE and WHOLE in self.runs:
            found = paired(self._mean(name), self._mean(WHOLE))
            row |= {"difference": found.difference, "low": found.low, "high": found.high}
        for key in DIAGNOSTICS:
            values = [run[key] for run in runs if run[key] is not None]
            row[key] = float(np.mean(values)) if values else None
        return row

    def _mean(self, name: str) -> np.ndarray:
        columns = [f"{name}, {seed}" for seed in self.runs[name]]
        return self.gains.select(pl.mean_horizontal(columns)).to_series().to_numpy().astype(np.float64)


def paired(one: np.ndarray, other: np.ndarray) -> Difference:
    """Return the mean difference of two recommenders' gains [users], by bootstrap over users."""
    drawn = resample(np.stack([one, other], axis=1), np.arange(len(one)), DRAWS, SEED)
    return difference(float(drawn.mean[0] - drawn.mean[1]), drawn.drawn[:, 0] - drawn.drawn[:, 1])


def _share(project: Path, copy: Path) -> None:
    """Link every artifact of `project` but what the rows write, which are copies."""
    shutil.copy(project / "params.yaml", copy / "params.yaml")
    for path in sorted(project.glob("artifacts/**/*")):
        target = copy / path.relative_to(project)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.relative_to(project).parts[1] in ("quantizer", "semantic_ids", "reports"):
            shutil.copy(path, target)
        elif MODEL not in path.parts:
            target.symlink_to(path.resolve())


def _edit(path: Path, changes: dict[str, Any], modalities: list[str]) -> None:
    yaml = YAML()
    content = yaml.load(path.read_text())
    for name, value in changes.items():
        *sections, last = name.split(".")
        node = content
        for section in sections:
            node = node[section]
        node[last] = [one for one in value if one in modalities] if last == "without" else value
    with path.open("w") as stream:
        yaml.dump(content, stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--only", help="rows, commas between them")
    options = parser.parse_args()
    name, _, folder = options.run.partition("=")
    project = Path(folder).resolve()
    kept = Kept(FOLDER / name)
    threads: int = YAML().load((project / "params.yaml").read_text())["threads"]
    wanted = options.only.split(",") if options.only else [row for row in ROWS if usable(ROWS[row], present(project))]
    for row in wanted:
        for seed in [seed for seed in options.seeds if str(seed) not in kept.runs.get(row, {})]:
            found, gains = measured(project, ROWS[row], seed)
            kept.add(row, seed, found, gains)
            kept.write(name, threads)
            print(f"{row}, seed {seed}: {np.mean(gains):.4f}, {found['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
