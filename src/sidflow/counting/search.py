"""Choosing the settings of a counting recommender on validation, one knob at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.core.params import Params
from sidflow.metrics.ranking import metric_at_k
from sidflow.sequences.histories import Histories, evenly_spread

METRIC = "valid_ndcg_at_10"
QUERIES_PER_BLOCK = 512  # queries scored at once


class CountingParams(Params):
    """What all counting models share."""

    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )


class ChosenParams(CountingParams):
    """Knobs of a counting model that chooses its setting on validation."""

    choose_on: int = Field(
        default=10_000, ge=1, description="validation queries that choose a setting, at most, evenly spread"
    )


class Choice(NamedTuple):
    """The best setting on validation, and all trials in order."""

    setting: dict[str, float]
    trials: list[dict[str, float]]  # settings with `valid_ndcg_at_10`


def coordinate_search(grid: Mapping[str, Sequence[float]], score: Callable[[dict[str, float]], float]) -> Choice:
    """Return the best setting by coordinate ascent: one knob at a time, until a full round changes nothing.

    Args:
        grid: the values of every knob; the search starts from the first of each.
        score: the metric of a setting, higher is better; among equal settings the first tried wins.
    """
    trials: list[dict[str, float]] = []
    scores: dict[tuple[float, ...], float] = {}

    def value(setting: dict[str, float]) -> float:
        key = tuple(setting.values())
        if key not in scores:
            scores[key] = score(setting)
            trials.append({**setting, METRIC: scores[key]})
        return scores[key]

    best = {name: values[0] for name, values in grid.items()}
    best_score = value(best)
    changed = True
    while changed:
        changed = False
        for name, values in grid.items():
            for candidate in values:
                setting = {**best, name: candidate}
                if value(setting) > best_score:
                    best, best_score, changed = setting, value(setting), True
    return Choice(best, trials)


MASKED = np.float32(-1e30)  # score of an item that is not a candidate


class ValidationSet(NamedTuple):
    """The validation queries on which settings are compared."""

    queries: np.ndarray  # int64 [v]
    masked: csr_matrix  # bool [v, n], the items that are not candidates
    targets: np.ndarray  # int [v]


def validation_set(histories: Histories, items: int, max_queries: int) -> ValidationSet:
    """Return all validation queries, or `max_queries` evenly spread ones where there are more."""
    queries = evenly_spread(np.flatnonzero(histories.query_valid), max_queries)
    return ValidationSet(queries, histories.excluded(items, queries), histories.targets[queries])


def mean_ndcg(ranks: np.ndarray) -> float:
    """Return the mean nDCG@10 of queries with one target each, from the targets' ranks."""
    return float(metric_at_k(ranks, "ndcg", 10).mean()) if len(ranks) else 0.0


def sparse_ranks(scores: csr_matrix, ties: np.ndarray, masked: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank from sparse scores, without a dense matrix.

    Args:
        scores: positive or absent (zero), float32 [v, n].
        ties: tie break added to every row, smaller than any difference between two scores, float32 [n].
        masked: items that are not candidates, bool [v, n].
        targets: int [v].

    Returns:
        int64 [v], 1 = best; n + 1 where the target is not a candidate.
    """
    queries, items = len(targets), len(ties)
    scored = csr_matrix(scores + masked.astype(np.float32) * MASKED)
    scored.eliminate_zeros()
    lengths, stored_ties = np.diff(scored.indptr), ties[scored.indices]
    target_scores, target_ties = np.asarray(scored[np.arange(queries), targets]).ravel(), ties[targets]
    tied_or_better = scored.data + stored_ties >= np.repeat(np.maximum(target_scores, 0) + target_ties, lengths)
    ahead_by_score = _per_row(tied_or_better, scored.indptr)
    ahead_by_tie = items - np.searchsorted(np.sort(ties), target_ties)  # all items with a tie break at least as large
    ahead_by_tie -= _per_row(stored_ties >= np.repeat(target_ties, lengths), scored.indptr)
    ranks = ahead_by_score + np.where(target_scores == 0, ahead_by_tie, 0)  # the target itself counts once, as rank 1
    return np.where(target_scores < MASKED / 2, items + 1, ranks)


def _per_row(flags: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the number of set flags in each row of a CSR matrix, int [v]."""
    return np.diff(np.concatenate([[0], np.cumsum(flags, dtype=np.int32)])[indptr])


def dense_ranks(scores: np.ndarray, masked: csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Return each target's rank as `sparse_ranks` does, from dense scores [v, n], which are overwritten."""
    queries, items = scores.shape
    target_scores = scores[np.arange(queries), targets].copy()
    scores[masked.nonzero()] = -np.inf
    target_excluded = np.isneginf(scores[np.arange(queries), targets])
    ranks = (scores >= target_scores[:, None]).sum(axis=1)
    return np.where(target_excluded, items + 1, ranks)
