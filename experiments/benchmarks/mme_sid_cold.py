"""Do rows of items that nobody has had rank sensibly? Beside the truth of the synthetic catalogue.

Run: python experiments/benchmarks/mme_sid_cold.py --run FOLDER
where FOLDER holds a project in which the preset `embedded` has run. It prints and writes nothing; load does not matter.
The truth that `ingest` keeps covers the core alone. The synthetic catalogue is therefore generated again from the
params, for its probabilities over all items.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from sidflow.artifacts.catalog import ITEMS, USERS
from sidflow.artifacts.recommenders import COLD_ROWS, FACTORS
from sidflow.catalog.params import IngestParams
from sidflow.catalog.sources.synthetic import read_synthetic
from sidflow.core import params
from sidflow.evaluation.statistics import PairedBootstrap
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import Histories, load_histories

K = 10
BEST = 5  # truly best cold items of a query, for the area under the curve


class Truth(NamedTuple):
    """What the test queries' next items were drawn from, over the whole catalogue."""

    query: np.ndarray  # int64 [q]
    chance: np.ndarray  # float64 [q, n]


def truth(past: Histories) -> Truth:
    """Return the true probabilities, from a catalogue built again."""
    settings = params.load_section("ingest", IngestParams)
    source = read_synthetic(Path(settings.path), settings).truth
    assert source is not None
    users, items = USERS.read()["user_key"].to_list(), ITEMS.read().sort("item_id")["item_key"].to_list()
    queries = np.flatnonzero(~past.query_valid)
    column = {key: place for place, key in enumerate(source.item_keys)}
    chance = source.probabilities_of(
        [users[user] for user in past.query_user[queries]], [items[target] for target in past.targets[queries]]
    )
    return Truth(queries, chance[:, [column[key] for key in items]])


def correlation(scores: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Return each row's rank correlation (Spearman)."""
    ranks = [rankdata(part, axis=1) - (part.shape[1] + 1) / 2 for part in (scores, chance)]
    lengths = [np.sqrt((part**2).sum(1)) for part in ranks]
    return (ranks[0] * ranks[1]).sum(1) / (lengths[0] * lengths[1])


def pairwise_auc(scores: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Return each row's chance that one of the `BEST` truly best items stands before another one."""
    best = rankdata(-chance, axis=1, method="ordinal") <= BEST
    return np.array([(row[top][:, None] > row[~top]).mean() for row, top in zip(scores, best, strict=True)])


def expected_ndcg(scores: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's expected nDCG@10, and its ten best items."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return (np.take_along_axis(chance, top, 1) / np.log2(np.arange(2, K + 2))).sum(1), top


def print_figures(model: str, past: Histories, expected: Truth) -> None:
    """Print the figures of recommender `model`."""
    factors, cold = FACTORS.read(model=model).arrays, COLD_ROWS.read(model=model).arrays
    there = cold["present"]
    items = len(factors["item_matrix"])
    own = Scores(factors, past.query_count, items).for_queries(expected.query).astype(np.float64)
    new = factors["query_states"][expected.query].astype(np.float64) @ cold["values"].T
    both = np.concatenate([own, np.where(there, new, -np.inf)], 1)
    for row, query in enumerate(expected.query):
        both[row, past.history(query)] = -np.inf
    user = past.query_user[expected.query]
    with_cold, top = expected_ndcg(both, expected.chance)
    without, _ = expected_ndcg(both[:, :items], expected.chance[:, :items])
    best, ideal = expected_ndcg(expected.chance, expected.chance)
    new, chance = new[:, there], expected.chance[:, items:][:, there]
    shown = top >= items
    for name, values in {
        "rank correlation with the truth among cold items (chance 0)": correlation(new, chance),
        f"area under the curve of the {BEST} truly best cold items (chance 0.5)": pairwise_auc(new, chance),
        "share of cold items in the top 10": shown.mean(1),
        "share of lists with one": shown.any(1).astype(float),
        "share of cold items in the truly best 10": (ideal >= items).mean(1),
        "expected nDCG@10 without cold items": without,
        "expected nDCG@10 with them": with_cold,
        "expected nDCG@10 of the truth": best,
    }.items():
        interval = PairedBootstrap({name: values}, user, draws=2000, seed=0).interval(name)
        print(f"{model}: {name}: {interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER")
    os.chdir(parser.parse_args().run)
    past = load_histories()
    expected, items = truth(past), ITEMS.read()
    print(f"{items.height} items, {items.height - int(items['in_core'].sum())} of them outside the core")
    for model in params.load_param("finetune"):
        if COLD_ROWS.at(model=model).is_file():
            print_figures(model, past, expected)


if __name__ == "__main__":
    main()
