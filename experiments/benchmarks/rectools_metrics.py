"""RecTools' metrics of small cases, which test_cross_checks.py of evaluation holds ours to; sidflow is not used.

    PYTHON_WITH_RECTOOLS experiments/benchmarks/rectools_metrics.py --write tests/unit/evaluation/rectools_metrics.json

RecTools needs an older numpy than this project and cannot be installed beside it, so what it answers is kept in a
file. A case is histories (users' items in order, the last two of each asked for) and whole-numbered factors, whose
inner products are exact; the lists are written out here as RecTools takes them: no item of the history, best first, the
target behind all that score as much. RecTools' NDCG divides by what k relevant items would earn unless
`divide_by_achievable` is set.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

CUTOFFS = (1, 5, 10, 20)
USERS = 30


def make_case(items: int, kind: str, repeats: bool, seed: int) -> dict[str, Any]:
    """Return histories and factors: scores `random`, mostly `tied`, all the same, or with the target `seen` on top."""
    generator = np.random.default_rng(seed)
    histories = [
        generator.choice(items, size=size, replace=repeats).tolist() for size in generator.integers(3, 13, USERS)
    ]
    if kind == "seen":  # 2ti - i^2 is highest at i = t
        targets = np.array([one[end] for one in histories for end in (-2, -1)])
        states, matrix = (
            np.stack([2 * targets, np.ones_like(targets)], 1),
            np.stack([range(items), -(np.arange(items) ** 2)], 1),
        )
    else:
        high = {"random": 1000, "tied": 2, "constant": 1}[kind]
        states, matrix = generator.integers(0, high, (2 * USERS, 3)), generator.integers(0, high, (items, 3))
    return {"histories": histories, "states": states.tolist(), "matrix": matrix.tolist()}


def lists(case: dict[str, Any], items: int) -> tuple[Any, Any]:
    """Return the lists of all queries as RecTools takes them, and what was asked for; each query is a user to it."""
    import pandas as pd  # type: ignore[import-not-found]

    matrix = np.asarray(case["matrix"])
    queries = [(one[:end], one[end]) for one in case["histories"] for end in (len(one) - 2, len(one) - 1)]
    rows = []
    for query, ((history, target), state) in enumerate(zip(queries, case["states"], strict=True)):
        scores = matrix @ np.asarray(state)
        allowed = sorted(set(range(items)) - set(history), key=lambda item: (-scores[item], item == target))
        rows += [(query, item, place) for place, item in enumerate(allowed, start=1)]
    truth = pd.DataFrame([(query, target) for query, (_, target) in enumerate(queries)], columns=["user_id", "item_id"])
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"]), truth


def answers(case: dict[str, Any], items: int) -> dict[str, float]:
    """Return RecTools' metrics of a case, under the names that ours have."""
    from rectools.metrics import MRR, NDCG, CatalogCoverage, HitRate, Recall  # type: ignore[import-not-found]

    listed, truth = lists(case, items)
    metrics = {}
    for k in CUTOFFS:
        metrics[f"hit_rate_at_{k}"] = HitRate(k=k).calc(listed, truth)
        metrics[f"recall_at_{k}"] = Recall(k=k).calc(listed, truth)
        metrics[f"ndcg_at_{k}"] = NDCG(k=k, divide_by_achievable=True).calc(listed, truth)
        metrics[f"mrr_at_{k}"] = MRR(k=k).calc(listed, truth)
        metrics[f"coverage_at_{k}"] = CatalogCoverage(k=k, normalize=True).calc(listed, np.arange(items))
    return {name: float(value) for name, value in metrics.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    cases = []
    for seed, (items, kind, repeats) in enumerate(
        [(60, kind, repeats) for kind in ("random", "tied", "constant", "seen") for repeats in (False, True)]
        + [(13, "random", False), (13, "tied", False)]
    ):
        case = make_case(items, kind, repeats, seed)
        cases.append({"kind": kind, "items": items, "repeats": repeats, **case, "metrics": answers(case, items)})
    content = {"rectools": importlib.metadata.version("rectools"), "cases": cases}
    args.write.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
