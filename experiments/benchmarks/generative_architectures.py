"""The two architectures of `tiger` at equal targets: a decoder over packed histories, and T5 as published.

Run: python experiments/benchmarks/generative_architectures.py --run FOLDER

FOLDER holds a finished run of the preset `embedded`. Both train on the same targets, by the schedule of so many epochs.
T5 reads the history before each target anew and has the preset's layers in each of its halves. It is trained by the
preset's settings and by others, of which the best counts, so that the decoder's settings are not held against it: no
dropout, more steps of fewer targets, another learning rate, and positions counted from the end of the history, which T5
itself has not. The figure is nDCG@10 over all validation queries, of the
best epoch; the test part is not looked at. Differences are paired: means over seeds of each user, then a bootstrap over
users.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
from collections.abc import Iterator
from typing import Any

import generative_training_quality as quality
import numpy as np
from side_by_side import Measurement, benchmark_record, run_conditions, run_side_or_all

DECODER = "packed"
WAYS = (DECODER, *quality.ENCODER_DECODERS)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    encoder_decoders = [way for way in quality.ENCODER_DECODERS if way in args.ways]
    runs, values = quality.train_in_turn(__file__, args, [DECODER, *encoder_decoders])
    means = {way: float(each.mean()) for way, each in values.items()}
    seconds = {way: statistics.mean(one["seconds"] for one in each) for way, each in runs.items()}
    best = max(encoder_decoders, key=means.__getitem__)
    against = {way: quality.interval((values[DECODER] - values[way]).mean(0)) for way in encoder_decoders}
    difference, low, high = against[best]
    yield (
        f"generative_architectures_{args.epochs}",
        benchmark_record(
            f"`tiger` on the embedded catalogue, {args.epochs} epochs: `architecture: decoder` against "
            "`encoder_decoder` (T5) on the same targets",
            "nDCG@10 on validation",
            Measurement(means[DECODER], max(one["peak_mb"] for one in runs[DECODER])),
            Measurement(means[best], max(one["peak_mb"] for one in runs[best])),
            higher_is_better=True,
            finding=f"mean of {len(args.seeds)} seeds {means[DECODER]:.4f} after {seconds[DECODER]:,.0f} s against "
            f"{means[best]:.4f} after {seconds[best]:,.0f} s of the best of {len(against)} ways "
            f"(`{best}`): {difference:+.4f}, 95% interval {low:+.4f} to {high:+.4f} over users; "
            f"{runs[DECODER][0]['parameters']:,} parameters against {runs[best][0]['parameters']:,}",
            command=f"python experiments/benchmarks/generative_architectures.py --run FOLDER --epochs {args.epochs} "
            f"--seeds {' '.join(map(str, args.seeds))}"
            + ("" if len(against) == len(quality.ENCODER_DECODERS) else f" --ways {shlex.join(encoder_decoders)}"),
            means={way: round(mean, 5) for way, mean in means.items()},
            by_seed={way: np.round(each.mean(1), 5).tolist() for way, each in values.items()},
            decoder_less=against,
            runs=runs,
            **run_conditions(1, 1),
        ),
    )


def main() -> None:
    parser = quality.quality_parser(__doc__, WAYS)
    every = list(quality.ENCODER_DECODERS)
    parser.add_argument("--ways", nargs="+", choices=every, default=every, help="of T5; all by default")
    run_side_or_all(parser, {"trained": quality.trained}, results)


if __name__ == "__main__":
    main()
