"""Which semantic IDs `tiger` learns best from: of one modality, of several joined, of other quantizers, sharing IDs.

Run: python experiments/benchmarks/generative_ids.py --run FOLDER

FOLDER holds a finished run of the preset `embedded`. Every way trains the preset's decoder on the same targets, by the
schedule of so many epochs; only the IDs differ. The reference is IDs of text, as TIGER has them. Codes of another
quantizer are made in a temporary copy of the run, by the stages `quantize` and `assign`; gates are off there, since its
codes need not be as even as the preset's. The figure is nDCG@10 over all validation queries, of the best epoch, where
items that share an ID are a tie; the test part is not looked at. Differences are paired: means over seeds of each user,
then a bootstrap over users.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import generative_training_quality as quality
import numpy as np
import project_copy
from side_by_side import Measurement, benchmark_record, run_conditions, run_side_or_all

REFERENCE = "text"


def _of(*modalities: str, suffix: str = "token") -> quality.Way:
    return quality.Way(params={"ids": {"modalities": list(modalities), "suffix": suffix}})


WAYS: Mapping[str, quality.Way] = {
    REFERENCE: _of("text"),
    "image": _of("image"),
    "collaborative": _of("collaborative"),
    "text and image joined": _of("text", "image"),
    "text and collaborative joined": _of("text", "collaborative"),
    "text, no suffix": _of("text", suffix="none"),
    "text, codes of rq-kmeans": _of("text"),
    "text, codes of rq-vae": _of("text"),
}
METHODS = {
    "text, codes of rq-kmeans": "rq-kmeans",
    "text, codes of rq-vae": "rq-vae",
}  # `quantize.method` of ways unlike the run's


def quantized_copy(run: Path, folder: Path, method: str) -> Path:
    """Copy a run, with the codes of another method in place of its own."""
    folder.mkdir()
    project_copy.share(run.resolve(), folder, "tiger", copied=("reports", "quantizer", "semantic_ids"))
    gates = ("least_code_usage", "most_collision_rate_distinct", "least_recall_ratio", "least_tau_triples")
    project_copy.edit(
        folder / "params.yaml", {"quantize.method": method, **{f"assign.gate.{gate}": None for gate in gates}}
    )
    project_copy.run(folder, [("quantize",), ("assign",)], method)
    return folder


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """Train `tiger` on the IDs that `args` name."""
    return quality.train(WAYS[args.way], args)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            way: quantized_copy(args.run, Path(scratch) / method, method)
            for way, method in METHODS.items()
            if way in args.ways
        }
        ways = [REFERENCE, *(way for way in args.ways if way != REFERENCE)]
        runs, values = quality.train_in_turn(__file__, args, ways, folders)
    means = {way: float(each.mean()) for way, each in values.items()}
    less_reference = {
        way: quality.interval((values[way] - values[REFERENCE]).mean(0)) for way in ways if way != REFERENCE
    }
    best = max(less_reference, key=means.__getitem__)
    difference, low, high = less_reference[best]
    yield (
        f"generative_ids_{args.epochs}",
        benchmark_record(
            f"`tiger` on the embedded catalogue, {args.epochs} epochs: IDs of text against the best of "
            f"{len(less_reference)} other kinds",
            "nDCG@10 on validation",
            Measurement(means[REFERENCE], max(one["peak_mb"] for one in runs[REFERENCE])),
            Measurement(means[best], max(one["peak_mb"] for one in runs[best])),
            higher_is_better=True,
            finding=f"mean of {len(args.seeds)} seeds {means[REFERENCE]:.4f} against {means[best]:.4f} of `{best}`: "
            f"the latter {difference:+.4f}, 95% interval {low:+.4f} to {high:+.4f} over users",
            command=f"python experiments/benchmarks/generative_ids.py --run FOLDER --epochs {args.epochs} "
            f"--seeds {' '.join(map(str, args.seeds))}",
            means={way: round(mean, 5) for way, mean in means.items()},
            by_seed={way: np.round(each.mean(1), 5).tolist() for way, each in values.items()},
            less_reference=less_reference,
            runs=runs,
            **run_conditions(1, 1),
        ),
    )


def main() -> None:
    parser = quality.quality_parser(__doc__, list(WAYS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="all by default")
    run_side_or_all(parser, {"trained": trained}, results)


if __name__ == "__main__":
    main()
