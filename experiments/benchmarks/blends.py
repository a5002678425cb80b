"""What is left beyond the best baseline? A blend of all recommenders, with hindsight, against it.

Run: python experiments/benchmarks/blends.py --run office-products=FOLDER

FOLDER holds a project in which the preset has run. Each recommender's scores of a validation query are brought to mean
0 and variance 1. To the best baseline's one other recommender after another is added, with the weight that raises
validation nDCG@10 most. Weights chosen on the queries that they are measured on flatter the blend: that is how much
these recommenders know together at the most. Chosen on one half of the users and measured on the other (and the other
way round), it is what a blend would really bring. The test part is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from finished_run import add_run_option, enter_run
from side_by_side import Measurement, benchmark_parser, benchmark_record, run_conditions, write
from torch import Tensor

from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.recommenders import FACTORS
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories
from sidflow.training.validation import nonzero_coordinates

METRIC = ("ndcg", 10)
WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
STEPS = 4
MOST_QUERIES = 4_000  # drawn where there are more
SEED = 0  # of the draw and of the halves


class Step(NamedTuple):
    """What is added to a blend."""

    name: str
    weight: float


class ValidationQueries:
    """Some validation queries, and what each recommender says of them."""

    def __init__(self, most: int) -> None:
        """Read the project in the working directory."""
        past, self.items = load_histories(), core_count()
        draw = np.random.default_rng(SEED)
        queries = np.flatnonzero(past.query_valid)
        self.queries = np.sort(draw.permutation(queries)[:most])
        self.targets = torch.from_numpy(past.targets[self.queries])
        self.seen = nonzero_coordinates(past.seen(self.items, self.queries), torch.device("cpu"))
        self.total = past.query_count
        self.half = draw.random(len(self.queries)) < 0.5  # one query a user: halves of users

    def scores(self, name: str) -> Tensor:
        """Return one recommender's scores [q, n], mean 0 and variance 1 in each row; -inf where the history is."""
        read = Scores(FACTORS.read(model=name).arrays, self.total, self.items, name)
        size = read.block_rows
        blocks = [read.for_queries(self.queries[start : start + size]) for start in range(0, len(self.queries), size)]
        scores = torch.from_numpy(np.concatenate(blocks))
        scores = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True).clamp(min=1e-9)
        scores[self.seen] = -torch.inf
        return scores

    def gains(self, scores: Tensor) -> np.ndarray:
        """Return each query's gain, ties against the target."""
        own = scores.gather(1, self.targets[:, None])
        rank = (scores >= own).sum(1)  # a target in the history comes last
        return metric_at_k(rank.numpy(), *METRIC)


class Blend(NamedTuple):
    """What was added to a recommender, and each query's gain then."""

    steps: list[Step]
    gains: np.ndarray


def greedy_blend(
    validation: ValidationQueries, scores_of: dict[str, Tensor], start: str, chosen_on: np.ndarray
) -> Blend:
    """Add to `start` what raises the mean gain over the queries `chosen_on`."""
    total, steps = scores_of[start], []
    best = validation.gains(total)
    for _ in range(STEPS):
        tried = {
            Step(name, weight): validation.gains(total + weight * scores)
            for name, scores in scores_of.items()
            for weight in WEIGHTS
            if name != start
        }
        step = max(tried, key=lambda one: tried[one][chosen_on].mean())
        if tried[step][chosen_on].mean() <= best[chosen_on].mean():
            break
        total, best = total + step.weight * scores_of[step.name], tried[step]
        steps.append(step)
    return Blend(steps, best)


def results(run: str) -> Iterator[tuple[str, dict[str, object]]]:
    with enter_run(run) as preset:
        board = json.loads(Path("artifacts/reports/leaderboard.json").read_text())
        baseline, validation = board["best_baseline"], ValidationQueries(MOST_QUERIES)
        scores_of = {
            name: validation.scores(name) for name, one in board["recommenders"].items() if one["kind"] != "reference"
        }
    alone = {one: validation.gains(scores).mean() for one, scores in scores_of.items()}
    best, one, other = (
        greedy_blend(validation, scores_of, baseline, chosen_on)
        for chosen_on in (np.ones_like(validation.half), validation.half, ~validation.half)
    )
    hindsight, crossed = best.gains.mean(), np.where(validation.half, other.gains, one.gains).mean()
    start = alone[baseline]
    gained, kept = (f"{value:.4f} ({value / start - 1:+.1%})" for value in (hindsight, crossed))
    additions = ", ".join(f"{step.weight:g} {step.name}" for step in best.steps) or "nothing"
    yield (
        f"blends/{preset}",
        benchmark_record(
            f"Blend of {len(scores_of)} recommenders with hindsight, {preset}: validation against {baseline} alone",
            "nDCG@10",
            Measurement(float(hindsight)),
            Measurement(float(start)),
            higher_is_better=True,
            finding=f"to {baseline} ({start:.4f}) hindsight adds {additions}: {gained}; "
            "chosen on one half of the users and measured on the other "
            f"{kept}; {len(validation.queries):,} users",
            command=f"python experiments/benchmarks/blends.py --run {preset}=FOLDER",
            **run_conditions(1),
            cross_fitted=round(float(crossed), 5),
            alone={one: round(float(value), 5) for one, value in alone.items()},
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_run_option(parser, action="append")
    args = parser.parse_args()
    for run in args.run:
        for name, result in results(run):
            write(name, result, args.dry, replace=args.replace)


if __name__ == "__main__":
    main()
