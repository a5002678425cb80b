"""From factors to metrics, held against RecTools, scikit-learn and sorted(): nothing shared with what is tested.

scikit-learn knows no ties against the target and no excluded items, so both are given to it in its own terms: an
excluded item scores below all others, and the target a hair less than it does here. RecTools cannot be installed
beside this project's numpy: `experiments/benchmarks/rectools_metrics.py` computed its metrics, which
`rectools_metrics.json` beside this file holds.
"""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from sidflow.evaluation import slices
from sidflow.evaluation.evaluate import EvaluationInputs, evaluate
from sidflow.evaluation.metrics import METRIC_NAMES, parse_metric_name
from sidflow.evaluation.params import EvaluateParams
from sidflow.metrics import ranking
from sidflow.ranking import scores
from sidflow.ranking.rank import RankParams, rank_targets, sample_negatives
from sidflow.sequences.histories import Histories

USERS = 40
RECTOOLS = json.loads(Path(__file__).with_name("rectools_metrics.json").read_text())


def _world(items: int, seed: int = 0, repeats: bool = True) -> Histories:
    """Return users of 3 to 12 events with their last two asked for; with `repeats` a target may be in the history."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 13, size=USERS)
    return _asked([generator.choice(items, size=n, replace=repeats) for n in lengths])


def _asked(sequences: list[np.ndarray]) -> Histories:
    """Return users of whose `sequences` the last two items are asked for."""
    lengths, flat = np.array([len(one) for one in sequences]), np.concatenate(sequences).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    user, end = np.repeat(np.arange(len(lengths)), 2), np.stack([lengths - 2, lengths - 1], axis=1).ravel()
    valid = np.zeros(len(user), dtype=bool)  # all are test queries, two of each user
    return Histories(flat, offsets, lengths - 2, user, end, valid, flat[offsets[user] + end].astype(np.int64))


def _factors(histories: Histories, items: int, kind: str, seed: int = 1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    if kind == "tied":  # few different scores
        draw = generator.integers(0, 2, size=(histories.query_count + items, 3))
    elif kind == "constant":
        draw = np.ones((histories.query_count + items, 3))
    else:
        draw = generator.normal(size=(histories.query_count + items, 3))
    draw = draw.astype(np.float32)
    return {"query_states": draw[: histories.query_count], "item_matrix": draw[histories.query_count :]}


def _measure(histories: Histories, arrays: dict[str, np.ndarray], items: int) -> dict[str, object]:
    best, of_targets = rank_targets(arrays, histories, items, RankParams()).tables()
    known = np.ones(items, dtype=bool)
    given = EvaluationInputs(
        histories=histories,
        tied=np.zeros(histories.query_count, dtype=bool),
        ranks=of_targets,
        top=best,
        truth=pl.DataFrame(),
        content=slices.ContentPresence(known, known),
        item_matrix=None,
        item_table=None,
        present=None,
        summary={},
    )
    return evaluate(given, EvaluateParams()).metrics


def _table(histories: Histories, arrays: dict[str, np.ndarray]) -> np.ndarray:
    exact = arrays["query_states"].astype(np.float64) @ arrays["item_matrix"].astype(np.float64).T
    return exact.astype(np.float32).astype(np.float64)


def _naive(histories: Histories, table: np.ndarray, metric: str, k: int) -> float:
    """Write every list out, the target behind its ties, and look for it."""
    earned = []
    for query in range(histories.query_count):
        seen, target = set(histories.history(query).tolist()), int(histories.targets[query])
        allowed = [item for item in range(table.shape[1]) if item not in seen]
        listed = sorted(allowed, key=lambda item: (-table[query, item], item == target))[:k]
        place = listed.index(target) + 1 if target in listed else None
        earned.append(_earned(metric, place) if place else 0.0)
    return float(np.mean(earned))


@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
@pytest.mark.parametrize(("items", "repeats"), [(60, True), (60, False), (13, False)])
def test_every_metric_equals_lists_that_are_written_out(kind, items, repeats):
    histories = _world(items, repeats=repeats)
    in_history = sum(histories.targets[q] in histories.history(q) for q in range(histories.query_count))
    assert (in_history > 0) == repeats
    arrays = _factors(histories, items, kind)
    found = _measure(histories, arrays, items)
    table = _table(histories, arrays)
    for name in METRIC_NAMES:
        assert found[name] == pytest.approx(_naive(histories, table, *parse_metric_name(name)), abs=1e-12), name
    assert found["targets_in_history"] == in_history
    assert (found["users_evaluated"], found["queries_evaluated"]) == (USERS, 2 * USERS)


@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
def test_the_only_item_there_is_is_found(kind):
    zeros = np.zeros(USERS, dtype=np.int64)
    first = Histories(
        items=zeros.astype(np.int32),
        offsets=np.arange(USERS + 1),
        train_end=zeros,
        query_user=np.arange(USERS),
        query_end=zeros,
        query_valid=zeros.astype(bool),
        targets=zeros,
    )
    found = _measure(first, _factors(first, 1, kind), 1)
    assert {found[name] for name in METRIC_NAMES} == {1.0}
    assert (found["coverage_at_1"], found["gini_at_1"], found["novelty_at_1"]) == (1, 0, 0)


@pytest.mark.parametrize("items", [13, 1])
def test_a_target_that_is_excluded_earns_nothing_even_where_few_items_are_left(items):
    histories = _world(items)
    arrays = _factors(histories, items, "random")
    found, table = _measure(histories, arrays, items), _table(histories, arrays)
    assert found["recall_at_20"] == pytest.approx(_naive(histories, table, "recall", 20))


@pytest.mark.parametrize(
    "case", RECTOOLS["cases"], ids=lambda case: f"{case['kind']}-{case['items']}-{case['repeats']}"
)
def test_metrics_equal_rectools(case):
    histories = _asked([np.array(one) for one in case["histories"]])
    arrays = {
        "query_states": np.array(case["states"], dtype=np.float32),
        "item_matrix": np.array(case["matrix"], dtype=np.float32),
    }
    found = _measure(histories, arrays, case["items"])
    assert {name.rsplit("_at_")[0] for name in case["metrics"]} > set(ranking.METRICS)
    for name, theirs in case["metrics"].items():
        if name.startswith("hit_rate"):  # one item is asked for: recall is the hit rate
            name = name.replace("hit_rate", "recall")
        if name.startswith("coverage") and case["kind"] != "random":
            continue  # which of two items that score alike is listed is either's own choice
        assert found[name] == pytest.approx(theirs, abs=1e-12), name


@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
def test_metrics_equal_scikit_learns(kind):
    items = 60
    histories = _world(items, repeats=False)
    arrays = _factors(histories, items, kind)
    found = _measure(histories, arrays, items)
    table, rows = _table(histories, arrays), np.arange(histories.query_count)
    table[rows, histories.targets] -= 1e-9
    table[histories.seen(items).toarray()] = table.min() - 1
    relevant = np.eye(items)[histories.targets]
    for k in (1, 5, 10, 20):
        # ignore_ties: equal items beside the target cannot move it, it being below them
        ndcg = ndcg_score(relevant, table, k=k, ignore_ties=True)
        recall = top_k_accuracy_score(histories.targets, table, k=k, labels=np.arange(items))
        reciprocal = [
            label_ranking_average_precision_score(relevant[[q]], table[[q]]) for q in rows
        ]  # with one relevant item: 1 / rank
        assert found[f"ndcg_at_{k}"] == pytest.approx(ndcg)
        assert found[f"recall_at_{k}"] == pytest.approx(recall)
        assert found[f"mrr_at_{k}"] == pytest.approx(np.mean([r if r > 1 / (k + 0.5) else 0.0 for r in reciprocal]))


@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
@pytest.mark.parametrize("items", [200, 60])  # 100 negatives of many items, and fewer than 100 that are left
def test_sampled_metrics_equal_scikit_learns(items, kind):
    histories = _world(items, repeats=False)
    arrays = _factors(histories, items, kind)
    found = _measure(histories, arrays, items)
    table, rows = _table(histories, arrays), np.arange(histories.query_count)
    table[rows, histories.targets] -= 1e-9
    chosen, seen = RankParams.model_validate({}), histories.seen(items).toarray()
    asked = np.zeros(table.shape, dtype=bool)
    for query, drawn in enumerate(sample_negatives(histories, items, chosen.negatives, chosen.seed)):
        asked[query, drawn[drawn >= 0]] = True
    assert not (asked & seen).any()
    assert not asked[rows, histories.targets].any()
    assert (asked.sum(axis=1) == np.minimum(chosen.negatives, items - 1 - seen.sum(axis=1))).all()
    asked[rows, histories.targets] = True
    table[~asked] = table.min() - 1
    relevant = np.eye(items)[histories.targets]
    reciprocal = [label_ranking_average_precision_score(relevant[[q]], table[[q]]) for q in rows]
    for k in (1, 5, 10, 20):
        ndcg = ndcg_score(relevant, table, k=k, ignore_ties=True)
        recall = top_k_accuracy_score(histories.targets, table, k=k, labels=np.arange(items))
        mrr = np.mean([r if r > 1 / (k + 0.5) else 0.0 for r in reciprocal])
        assert found[f"sampled_ndcg_at_{k}"] == pytest.approx(ndcg)
        assert found[f"sampled_recall_at_{k}"] == pytest.approx(recall)
        assert found[f"sampled_mrr_at_{k}"] == pytest.approx(mrr)


@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
def test_no_metric_depends_on_how_queries_are_batched(kind, monkeypatch):
    items = 30
    histories = _world(items)
    arrays = _factors(histories, items, kind)
    whole = _measure(histories, arrays, items)
    for size in (1, 7):
        monkeypatch.setattr(scores, "_BLOCK_BYTES", 8 * items * size)
        assert _measure(histories, arrays, items) == whole


def test_a_recommender_that_sees_the_target_gets_one_whatever_the_cutoff():
    items = 60
    histories = _world(items, repeats=False)
    one_hot = np.eye(items, dtype=np.float32)
    found = _measure(histories, {"query_states": one_hot[histories.targets], "item_matrix": one_hot}, items)
    assert {found[name] for name in METRIC_NAMES} == {1.0}
    assert {found[f"sampled_{name}"] for name in METRIC_NAMES} == {1.0}


def test_where_the_target_is_never_recommended_everything_is_zero():
    items = 60
    histories = _world(items, repeats=False)
    again = histories._replace(targets=np.array([histories.history(q)[0] for q in range(histories.query_count)]))
    found = _measure(again, _factors(again, items, "random"), items)
    assert {found[name] for name in METRIC_NAMES} == {0.0}
    assert {found[f"sampled_{name}"] for name in METRIC_NAMES} == {0.0}
    assert found["targets_in_history"] == again.query_count


def test_random_scores_get_the_expectation_of_a_random_rank():
    items, draws = 40, 60
    histories = _world(items, repeats=False)
    candidates = items - histories.query_end
    runs = [_measure(histories, _rows_of_noise(histories, items, seed), items) for seed in range(draws)]
    for name in METRIC_NAMES:
        metric, k = parse_metric_name(name)
        ranking = [sum(_earned(metric, r) for r in range(1, min(k, n) + 1)) / n for n in candidates]
        values = np.array([run[name] for run in runs])
        error = values.std(ddof=1) / np.sqrt(draws)
        assert abs(values.mean() - np.mean(ranking)) < 4 * error, name


def _rows_of_noise(histories: Histories, items: int, seed: int) -> dict[str, np.ndarray]:
    """Return factors under which every score is drawn by itself: one dimension an item."""
    noise = np.random.default_rng(seed).normal(size=(histories.query_count, items)).astype(np.float32)
    return {"query_states": noise, "item_matrix": np.eye(items, dtype=np.float32)}


def _earned(metric: str, rank: int) -> float:
    return {"recall": 1.0, "ndcg": 1 / math.log2(rank + 1), "mrr": 1 / rank}[metric]
