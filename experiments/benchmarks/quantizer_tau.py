"""Does MMD in the reconstruction keep more of the order of distances than MSE alone, as the paper says?

Run: python experiments/benchmarks/quantizer_tau.py --run movielens-posters=FOLDER --run office-products=FOLDER
where FOLDER holds a project in which the preset has run (`dvc repro assign`). One thread; load does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from finished_run import add_run_option
from quantizer_common import Run, audit, load, train
from scipy.stats import t as student
from side_by_side import Measurement, benchmark_parser, benchmark_record, commit, machine, write

MODALITY = "text"
# The paper's shape at a size for a CPU: plain towers, no linear skip, codebooks as training left them.
SHARED: dict[str, Any] = {
    "code_dim": 64,
    "hidden": [256, 128],
    "skip": "none",
    "alignment": "none",
    "refine_steps": 0,
    "separate_steps": 0,
    "loop": {"epochs": 4, "patience": 0, "learning_rate": 1e-3, "weight_decay": 1e-4},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "mse": {"reconstruction": "mse"},
    "mse + 3 mmd": {"reconstruction": "both", "mmd_weight": 3.0},
    "3 mmd": {"reconstruction": "mmd", "mmd_weight": 3.0},
}
FIGURES = ("tau", "tau_triples", "neighbour_recall_at_10", "reconstruction_error", "collision_rate_distinct")


def measure(run: Run, seeds: list[int], epochs: int) -> dict[str, dict[str, list[float]]]:
    """Return each variant's figures, one a seed."""
    figures: dict[str, dict[str, list[float]]] = {}
    for variant, own in VARIANTS.items():
        rows = []
        for seed in seeds:
            overrides = {**SHARED, **own, "loop": {**SHARED["loop"], "epochs": epochs}}
            result = train(run.modalities, overrides, seed)
            rows.append(audit(result, run.modalities, run.tau_queries)[MODALITY])
        figures[variant] = {name: [float(row[name]) for row in rows] for name in FIGURES}
    return figures


def difference(ours: list[float], theirs: list[float], level: float = 0.95) -> dict[str, float]:
    """Return the mean paired difference over seeds with Student's interval."""
    paired = np.subtract(ours, theirs)
    error = paired.std(ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else float("nan")
    reach = float(student.ppf((1 + level) / 2, max(1, len(paired) - 1)) * error)
    mean = float(paired.mean())
    return {"mean": round(mean, 4), "low": round(mean - reach, 4), "high": round(mean + reach, 4)}


def verdict(figures: dict[str, float]) -> str:
    return "above" if figures["low"] > 0 else "below" if figures["high"] < 0 else "undecided"


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_run_option(parser, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=SHARED["loop"]["epochs"])
    args = parser.parse_args()
    seeds, details, findings = list(range(args.seeds)), {}, []
    for argument in args.run:
        run = load(argument, [MODALITY])
        values = measure(run, seeds, args.epochs)
        rows = {}
        for variant in VARIANTS:
            compared = {name: difference(values[variant][name], values["mse"][name]) for name in FIGURES}
            mean = {name: round(float(np.mean(each)), 4) for name, each in values[variant].items()}
            rows[variant] = {"mean": mean, "per_seed": values[variant], "less_mse": compared}
            if variant != "mse":
                tau = compared["tau"]
                findings.append(
                    f"{run.name}, {variant}: {mean['tau']:.4f} less {np.mean(values['mse']['tau']):.4f} is "
                    f"{tau['mean']:+.4f} [{tau['low']:+.4f}, {tau['high']:+.4f}], {verdict(tau)}"
                )
        details[run.name] = rows
    first = next(iter(details.values()))
    result = benchmark_record(
        f"Kendall's tau of text IDs on {next(iter(details))}: reconstruction with MMD alone against MSE alone",
        "tau",
        Measurement(first["3 mmd"]["mean"]["tau"]),
        Measurement(first["mse"]["mean"]["tau"]),
        higher_is_better=True,
        finding=f"Kendall's tau of text IDs, reconstruction with MMD against MSE alone, {len(seeds)} seeds, paired "
        f"differences with Student's 95% intervals: {'; '.join(findings)}",
        command="python experiments/benchmarks/quantizer_tau.py --run movielens-posters=FOLDER "
        "--run office-products=FOLDER",
        machine=machine(threads=1),
        commit=commit(),
        params={**SHARED, "loop": {**SHARED["loop"], "epochs": args.epochs}, "variants": VARIANTS},
        details=details,
    )
    write("quantizer_tau", result, args.dry, replace=args.replace)


if __name__ == "__main__":
    main()
