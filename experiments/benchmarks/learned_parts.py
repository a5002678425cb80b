"""Which part of the truth does each recommender learn?

Run: python experiments/benchmarks/learned_parts.py --run embedded=FOLDER

FOLDER holds a project in which a preset of the source `synthetic` has run. Its users choose by a sum of log scores:
popularity, taste and style, hue, the categories of the last two products, and companions of these two.

A recommender's scores are brought to a logit's scale by the temperature with the highest likelihood of the validation
targets. They are then regressed on the parts, per query around its mean, each candidate weighted by its true
probability. 1 is a part learned whole, 0 one that is missed. The rest is the share of the weighted variance of the
scores that no part explains. Beside it stand what the oracle loses in expected nDCG@10 where it lacks a part, and a
reader of histories who knows all of the choice model but the user: the best that can be learned. Queries after an item
outside the core are left out. The validation part alone is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from finished_run import add_run_option, enter_run
from side_by_side import benchmark_parser, run_conditions, write

from sidflow.artifacts.catalog import ITEMS, TRUTH, USERS, core_count
from sidflow.artifacts.recommenders import FACTORS
from sidflow.catalog.params import IngestParams, SyntheticParams
from sidflow.catalog.sources.synthetic import RECENCY_WEIGHTS, ChoiceModel, SyntheticUsers, sample_users
from sidflow.catalog.synthetic.products import Grammar, Products, read_grammar, sample_products
from sidflow.core.params import load_section
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories

KNOBS = ("popularity", "taste", "colour")  # params of the choice model that scale a part each
LAGS = ("last", "one before")
PARTS = (*KNOBS, *(f"category after the {lag}" for lag in LAGS), *(f"companion of the {lag}" for lag in LAGS))
LEAST_EXACT = 0.98  # share of queries whose recorded probabilities the parts add up to
BEST_READER = "best reader of histories"
SEED = 0  # of the users that it weighs
TEMPERATURES = np.geomspace(0.02, 50, 120)


class Catalogue(NamedTuple):
    """The synthetic catalogue of the project in the working directory, made again from its seed."""

    grammar: Grammar
    products: Products
    users: SyntheticUsers
    size: SyntheticParams
    product: np.ndarray  # int64 [items], the product of each item
    user: np.ndarray  # int64 [users], the synthetic user of each user


class Truth(NamedTuple):
    """The choice model's log scores of all candidates of the validation queries."""

    queries: np.ndarray  # int64 [q]
    targets: np.ndarray  # int64 [q]
    probabilities: np.ndarray  # float64 [q, n], 0 where an item is no candidate
    parts: np.ndarray  # float64 [parts, q, n]


def make_catalogue() -> Catalogue:
    """Return the catalogue as `ingest` made it."""
    params = load_section("ingest", IngestParams)
    streams = [np.random.default_rng([params.seed, part]) for part in range(4)]
    grammar = read_grammar(Path(params.path))
    products = sample_products(grammar, params.synthetic, streams[0])
    users = sample_users(len(grammar.styles), params.synthetic, streams[2])
    of_key = {key: row for row, key in enumerate(products.keys)}
    of_user = {key: row for row, key in enumerate(users.keys)}
    product = [of_key[key] for key in ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"]]
    user = [of_user[key] for key in USERS.read().sort("user_id")["user_key"]]
    return Catalogue(grammar, products, users, params.synthetic, np.array(product), np.array(user))


def context_parts(catalogue: Catalogue, recent: np.ndarray) -> list[np.ndarray]:
    """Return the log scores of all products by the last two, two parts by categories and two by companions.

    Args:
        catalogue: the products.
        recent: int64 [q, 2], the last two products, the latest in the last column.
    """
    products, size = catalogue.products, catalogue.size
    transitions = np.log(catalogue.grammar.transitions())[:, products.category]
    lags = list(enumerate(RECENCY_WEIGHTS, start=1))
    categories = [weight * size.transition * transitions[products.category[recent[:, -lag]]] for lag, weight in lags]
    companions = []
    for lag, weight in lags:
        scores = np.zeros((len(recent), len(products.keys)))
        for column in products.companion[recent[:, -lag]].T:
            scores[np.arange(len(recent)), column] += weight * size.companion
        companions.append(scores)
    return [*categories, *companions]


def user_parts(catalogue: Catalogue, users: SyntheticUsers, user: np.ndarray) -> list[np.ndarray]:
    """Return the log scores of all products for `user`, without what came before: popularity, taste, colour."""
    size, nothing = catalogue.size, dict.fromkeys((*KNOBS, "transition", "companion"), 0.0)
    nobody, always = np.full((len(user), 2), -1), np.full(len(user), np.iinfo(np.int64).max)
    parts = []
    for knob in KNOBS:
        alone = size.model_copy(update=nothing | {knob: getattr(size, knob)})
        model = ChoiceModel(catalogue.grammar, catalogue.products, users, alone)
        parts.append(np.log(model.probabilities(user, nobody, always)))
    return parts


def read_truth(catalogue: Catalogue) -> Truth:
    """Return the truth of the project in the working directory.

    Raises:
        SystemExit: the parts do not add up to the probabilities that `ingest` recorded.
    """
    histories, items = load_histories(), core_count()
    queries = np.flatnonzero(histories.query_valid)
    user, end = histories.query_user[queries], histories.query_end[queries]
    ends = histories.offsets[user] + end
    recent = catalogue.product[np.stack([histories.items[ends - lag] for lag in (2, 1)], 1)]
    at = pl.DataFrame(
        {"user_id": user.astype(np.int32), "position": histories.target_position[queries].astype(np.int32)}
    )
    recorded = at.join(TRUTH.read(), on=["user_id", "position"], how="left", maintain_order="left")
    probabilities = recorded["probabilities"].to_numpy().astype(np.float64)
    parts = user_parts(catalogue, catalogue.users, catalogue.user[user]) + context_parts(catalogue, recent)
    stacked = np.stack(parts)[:, :, catalogue.product[:items]]
    logits = np.where(probabilities > 0, stacked.sum(0), -np.inf)
    again = np.exp(logits - logits.max(1, keepdims=True))
    exact = np.isclose(again / again.sum(1, keepdims=True), probabilities, atol=1e-5).all(1)
    if exact.mean() < LEAST_EXACT:
        raise SystemExit(f"the parts give the recorded probabilities of {exact.mean():.1%} of the queries alone")
    return Truth(queries[exact], histories.targets[queries[exact]], probabilities[exact], stacked[:, exact])


def best_reader(catalogue: Catalogue, truth: Truth, samples: int) -> np.ndarray:
    """Return the scores of a reader who knows all of the choice model but the user, float64 [q, n].

    Tastes and hues are drawn as the catalogue draws them. Each is weighted by the likelihood of the history from the
    third event on, and the probabilities that they give are averaged.

    Args:
        catalogue: the products.
        truth: of the queries.
        samples: users that are drawn.
    """
    histories, items = load_histories(), core_count()
    size = catalogue.size.model_copy(update={"users": samples})
    drawn = sample_users(len(catalogue.grammar.styles), size, np.random.default_rng(SEED))
    preference = np.sum(user_parts(catalogue, drawn, np.arange(samples)), axis=0)[
        :, catalogue.product
    ]  # [samples, items]
    released = ChoiceModel(catalogue.grammar, catalogue.products, drawn, size)._release[catalogue.product]
    scores = np.empty((len(truth.queries), items))
    for row, query in enumerate(truth.queries):
        user, end = histories.query_user[query], int(histories.query_end[query])
        events = histories.items[histories.offsets[user] : histories.offsets[user] + end]
        seconds = catalogue.users.seconds[catalogue.user[user]]
        weight, seen = np.zeros(samples), np.zeros(len(released), dtype=bool)
        for step, item in enumerate(events):
            if step >= 2:
                recent = catalogue.product[events[step - 2 : step]][None]
                context = np.sum(context_parts(catalogue, recent), axis=0)[0, catalogue.product]
                candidate = ~seen & (released <= seconds[step])
                candidate[item] = True
                logits = (preference + context)[:, candidate]
                top = logits.max(1, keepdims=True)
                weight += (preference + context)[:, item] - top[:, 0] - np.log(np.exp(logits - top).sum(1))
            seen[item] = True
        candidate = truth.probabilities[row] > 0
        logits = np.where(candidate, preference[:, :items] + truth.parts[len(KNOBS) :, row].sum(0), -np.inf)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        predictive = np.exp(weight - weight.max()) @ shares
        scores[row] = np.log(np.where(candidate, predictive, 1))
    return scores


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
    """Return the mean expected nDCG@10 of ranking by `scores`, over the true probabilities; ties against the item."""
    scores = np.where(truth.probabilities > 0, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    gains = metric_at_k(np.arange(1, scores.shape[1] + 1), "ndcg", 10)
    return float((np.take_along_axis(truth.probabilities, order, 1) * gains).sum(1).mean())


def analyse(names: list[str], samples: int) -> tuple[list[dict[str, object]], int]:
    """Return one row for each recommender, after the oracle and the best reader of histories, and the queries."""
    catalogue = make_catalogue()
    truth = read_truth(catalogue)
    whole = truth.parts.sum(0)
    best = expected_ndcg(truth, whole)
    losses = {
        name: round(expected_ndcg(truth, whole - part) - best, 4) for name, part in zip(PARTS, truth.parts, strict=True)
    }
    oracle: dict[str, object] = {"row": "oracle; its loss without the part", "expected_ndcg_at_10": round(best, 4)}
    rows = [oracle | losses]
    histories, items = load_histories(), core_count()
    excluded = histories.excluded(items, truth.queries).toarray().astype(bool)
    for name in (BEST_READER, *names):
        if name == BEST_READER:
            scores = best_reader(catalogue, truth, samples)
        else:
            factors = Scores(FACTORS.read(model=name).arrays, histories.query_count, items, name)
            scores = np.where(excluded, -np.inf, factors.for_queries(truth.queries).astype(np.float64))
        rows.append(
            {"row": name, "expected_ndcg_at_10": round(expected_ndcg(truth, scores), 4), **learned(truth, scores)}
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows, len(truth.queries)


def main() -> None:
    """Analyse one run, print its rows and record them."""
    parser = benchmark_parser(__doc__)
    add_run_option(parser)
    parser.add_argument("--samples", type=int, default=1000, help="users that the best reader of histories weighs")
    args = parser.parse_args()
    with enter_run(args.run) as preset:
        board = json.loads(Path("artifacts/reports/leaderboard.json").read_text())
        names = [name for name, one in board["recommenders"].items() if one["kind"] != "reference"]
        rows, queries = analyse(names, args.samples)
    record = {
        "run": preset,
        "rows": rows,
        "queries": queries,
        "samples": args.samples,
        "command": f"python experiments/benchmarks/learned_parts.py --run {preset}=FOLDER",
        **run_conditions(1),
    }
    write(f"learned_parts/{preset}", record, args.dry, replace=args.replace)


if __name__ == "__main__":
    main()
