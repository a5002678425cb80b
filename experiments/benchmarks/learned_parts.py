"""Which part of the truth does each recommender learn?

Run: python experiments/benchmarks/learned_parts.py --run embedded=FOLDER

FOLDER holds a project in which a preset of the source `synthetic` has run. Its users choose by a sum of log scores:
popularity, taste and style, hue, the categories of the last two products, and companions of these two.

A recommender's scores are brought to a logit's scale by the temperature with the highest likelihood of the validation
targets. They are then regressed on the parts, per query around its mean, each candidate weighted by its true
probability. 1 is a part learned whole, 0 one that is missed. Beside it stand what the oracle loses in expected NDCG@10
where it lacks that part, and the rest: the share of the weighted variance of the scores that no part explains. Queries
after an item outside the core are left out. The validation part alone is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from side_by_side import benchmark_parser, run_conditions, write

from sidflow.artifacts.catalog import ITEMS, TRUTH, USERS, core_count
from sidflow.artifacts.recommenders import FACTORS
from sidflow.catalog.params import IngestParams
from sidflow.catalog.sources.synthetic import RECENCY_WEIGHTS, ChoiceModel, sample_users
from sidflow.catalog.synthetic.products import read_grammar, sample_products
from sidflow.core.params import load_section
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories

KNOBS = ("popularity", "taste", "colour")  # params of the choice model that scale a part each
LAGS = ("last", "one before")
PARTS = (*KNOBS, *(f"category after the {lag}" for lag in LAGS), *(f"companion of the {lag}" for lag in LAGS))
LEAST_EXACT = 0.98  # share of queries whose recorded probabilities the parts add up to
TEMPERATURES = np.geomspace(0.02, 50, 120)


class Truth(NamedTuple):
    """The choice model's log scores of all candidates of the validation queries."""

    queries: np.ndarray  # int64 [q]
    targets: np.ndarray  # int64 [q]
    probabilities: np.ndarray  # float64 [q, n], 0 where an item is no candidate
    parts: np.ndarray  # float64 [parts, q, n]


def read_truth() -> Truth:
    """Return the truth of the project in the working directory.

    Raises:
        SystemExit: the parts do not add up to the probabilities that `ingest` recorded.
    """
    histories, items = load_histories(), core_count()
    params = load_section("ingest", IngestParams)
    size = params.synthetic
    streams = [np.random.default_rng([params.seed, part]) for part in range(4)]
    grammar = read_grammar(Path(params.path))
    products = sample_products(grammar, size, streams[0])
    users = sample_users(len(grammar.styles), size, streams[2])
    queries = np.flatnonzero(histories.query_valid)
    user_ids = histories.query_user[queries]
    position = histories.query_end[queries]
    keys = dict(zip(products.keys, range(len(products.keys)), strict=True))
    product = np.array([keys[key] for key in ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"]])
    rows = {key: row for row, key in enumerate(users.keys)}
    user = np.array([rows[key] for key in USERS.read().sort("user_id")["user_key"]])[user_ids]
    ends = histories.offsets[user_ids] + position
    recent = product[np.stack([histories.items[ends - lag] for lag in (2, 1)], 1)]
    recorded = TRUTH.read().filter(pl.struct("user_id", "position").is_in(
        pl.DataFrame({"user_id": user_ids, "position": position}, schema={"user_id": pl.Int32, "position": pl.Int32})
        .select(pl.struct("user_id", "position")).to_series().implode()
    )).sort("user_id", "position")  # fmt: skip
    order = np.lexsort((position, user_ids))
    probabilities = np.zeros((len(queries), items))
    probabilities[order] = recorded["probabilities"].to_numpy()
    seconds = np.full(len(queries), np.iinfo(np.int64).max)  # candidates that are not yet released have probability 0

    def log_scores(knob: str) -> np.ndarray:
        alone = size.model_copy(update={name: 0.0 for name in (*KNOBS, "transition", "companion") if name != knob})
        return np.log(ChoiceModel(grammar, products, users, alone).probabilities(user, recent, seconds))

    parts = [log_scores(knob) for knob in KNOBS]
    transitions = np.log(grammar.transitions())[:, products.category]
    for lag, weight in enumerate(RECENCY_WEIGHTS, start=1):
        parts.append(weight * size.transition * transitions[products.category[recent[:, -lag]]])
    for lag, weight in enumerate(RECENCY_WEIGHTS, start=1):
        companions = np.zeros((len(queries), len(product)))
        for column in products.companion[recent[:, -lag]].T:
            companions[np.arange(len(queries)), column] += weight * size.companion
        parts.append(companions)
    stacked = np.stack(parts)[:, :, product[:items]]
    logits = np.where(probabilities > 0, stacked.sum(0), -np.inf)
    again = np.exp(logits - logits.max(1, keepdims=True))
    exact = np.isclose(again / again.sum(1, keepdims=True), probabilities, atol=1e-5).all(1)
    if exact.mean() < LEAST_EXACT:
        raise SystemExit(f"the parts give the recorded probabilities of {exact.mean():.1%} of the queries alone")
    return Truth(queries[exact], histories.targets[queries[exact]], probabilities[exact], stacked[:, exact])


def learned(truth: Truth, scores: np.ndarray) -> dict[str, float]:
    """Return the coefficient of each part in a recommender's scores, and the share of them that is none.

    Args:
        truth: of the queries.
        scores: float [q, n]; -inf is no candidate.
    """
    candidate = truth.probabilities > 0
    rows = np.arange(len(scores))
    kept = candidate[rows, truth.targets] & np.isfinite(scores[rows, truth.targets])
    logits = np.where(candidate, scores, -np.inf)[kept]
    own = logits[np.arange(len(logits)), truth.targets[kept]]

    def likelihood(factor: float) -> float:
        scaled = factor * logits
        top = scaled.max(1)
        return float((factor * own - top - np.log(np.exp(scaled - top[:, None]).sum(1))).mean())

    spread = np.nanstd(np.where(np.isfinite(logits), logits, np.nan), axis=1).mean()
    factor = max(TEMPERATURES / max(1e-9, float(spread)), key=likelihood)
    weights = np.where(candidate & np.isfinite(scores), truth.probabilities, 0)
    weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)

    def centred(values: np.ndarray) -> np.ndarray:
        values = np.where(weights > 0, values, 0)
        return ((values - (weights * values).sum(1, keepdims=True)) * np.sqrt(weights)).ravel()

    design = np.stack([centred(part) for part in truth.parts], 1)
    answer = centred(factor * np.where(np.isfinite(scores), scores, 0))
    coefficients, *_ = np.linalg.lstsq(design, answer, rcond=None)
    rest = answer - design @ coefficients
    return {
        **{name: round(float(value), 3) for name, value in zip(PARTS, coefficients, strict=True)},
        "rest": round(float(rest @ rest / max(1e-12, answer @ answer)), 3),
        "log_likelihood": round(likelihood(factor), 4),
    }


def expected_ndcg(truth: Truth, scores: np.ndarray) -> float:
    """Return the mean expected NDCG@10 of ranking by `scores`, over the true probabilities; ties against the item."""
    scores = np.where(truth.probabilities > 0, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    gains = metric_at_k(np.arange(1, scores.shape[1] + 1), "ndcg", 10)
    return float((np.take_along_axis(truth.probabilities, order, 1) * gains).sum(1).mean())


def analyse(truth: Truth, names: list[str]) -> list[dict[str, object]]:
    """Return one row for each recommender, the first being the oracle with what it loses without each part."""
    whole = truth.parts.sum(0)
    best = expected_ndcg(truth, whole)
    losses = {
        name: round(expected_ndcg(truth, whole - part) - best, 4) for name, part in zip(PARTS, truth.parts, strict=True)
    }
    rows: list[dict[str, object]] = [
        {"row": "oracle; its loss without the part", "expected_ndcg_at_10": round(best, 4), **losses}
    ]
    histories, items = load_histories(), core_count()
    excluded = histories.excluded(items, truth.queries).toarray().astype(bool)
    for name in names:
        scores = Scores(FACTORS.read(model=name).arrays, histories.query_count, items, name).for_queries(truth.queries)
        scores = np.where(excluded, -np.inf, scores.astype(np.float64))
        row = {"row": name, "expected_ndcg_at_10": round(expected_ndcg(truth, scores), 4), **learned(truth, scores)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Analyse one run, print its rows and record them."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--run", required=True, metavar="NAME=FOLDER")
    args = parser.parse_args()
    preset, folder = args.run.split("=", 1)
    back = Path.cwd()
    os.chdir(folder)
    board = json.loads(Path("artifacts/reports/leaderboard.json").read_text())
    names = [name for name, one in board["recommenders"].items() if one["kind"] != "reference"]
    truth = read_truth()
    rows = analyse(truth, names)
    os.chdir(back)
    record = {
        "run": preset,
        "rows": rows,
        "queries": len(truth.queries),
        "command": f"python experiments/benchmarks/learned_parts.py --run {preset}=FOLDER",
        **run_conditions(1),
    }
    write(f"learned_parts/{preset}", record, args.dry, replace=args.replace)


if __name__ == "__main__":
    main()
