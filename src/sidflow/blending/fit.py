"""A blend: the scores of two recommenders added, the weight chosen on validation.

Both are read as factors, so that the blend is ranked, evaluated and compared like any recommender. The two learn apart:
neither has to be trained again, and what one adds to the other is told from what it can do alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import (
    BLEND_KEY,
    FACTORS,
    IDS,
    LISTS_KEY,
    SUMMARY,
    ScoreFactors,
    refit_in,
    refit_metadata,
)
from sidflow.blending.params import BlendParams
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.counting.search import METRIC, Choice, dense_ranks, validation_set
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.scores import Scores, tied_by_id
from sidflow.sequences.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Int32


def fit_blend(name: str, settings: BlendParams, histories: Histories, items: int) -> None:
    """Choose the weight of a blend, and write its factors and summary.

    Raises:
        InputError: a recommender's factors are absent or of another split, or one has a second fit and one has not.
    """
    files = {part: FACTORS.read(model=part) for part in (settings.base, settings.added)}
    base, added = files[settings.base], files[settings.added]
    refit = _common_refit(settings, base, added)
    ids = _common_ids(settings, base, added)
    choice = choose_weight(settings, histories, items, base, added, ids)
    first, second = (ScoreFactors.from_arrays(file.arrays, items) for file in (base, added))
    factors = weighted_sum(first, second, choice.setting["weight"])
    arrays = factors.arrays() | ({} if ids is None else {IDS: ids})
    weighted = [base, added] if choice.setting["weight"] else [base]
    lists = {LISTS_KEY: True} if all(file.metadata.get(LISTS_KEY) for file in weighted) else {}
    FACTORS.write(arrays, {"model": name, BLEND_KEY: True, **lists, **refit_metadata(refit)}, model=name)
    SUMMARY.write(
        {
            "name": name,
            "params": settings.model_dump(mode="json"),
            "chosen": choice.setting,
            "best_" + METRIC: max(trial[METRIC] for trial in choice.trials),
            "trials": choice.trials,
            "sizes": {part: list(array.shape) for part, array in arrays.items()},
            "megabytes": sum(array.nbytes for array in arrays.values()) / 1e6,
        },
        model=name,
    )


def _common_refit(settings: BlendParams, base: Tensors, added: Tensors) -> bool | None:
    refits = refit_in(base.metadata), refit_in(added.metadata)
    if None in refits or refits[0] == refits[1]:
        return refits[0] if refits[1] is None else refits[1]
    second = settings.base if refits[0] else settings.added
    raise InputError(
        "params.yaml:blend",
        expected=f"`refit` alike in {settings.base} and {settings.added}",
        found=f"true in {second} alone",
        remedy="set it alike in both and `dvc repro`",
    )


def _common_ids(settings: BlendParams, base: Tensors, added: Tensors) -> np.ndarray | None:
    """Return the number of each item's ID, of the part whose items share IDs; None where none do."""
    parts = [file.arrays[IDS] for file in (base, added) if IDS in file.arrays]
    if len(parts) == 2 and not np.array_equal(parts[0], parts[1]):
        raise InputError(
            "params.yaml:blend",
            expected=f"the same IDs in {settings.base} and {settings.added}, whose items share IDs",
            found="others",
            count=int((parts[0] != parts[1]).sum()),
            example=f"item {int(np.flatnonzero(parts[0] != parts[1])[0])}",
            remedy="set `ids` alike in both, or `ids.suffix: token` in one",
        )
    return parts[0] if parts else None


def choose_weight(
    settings: BlendParams,
    histories: Histories,
    items: int,
    base: Tensors,
    added: Tensors,
    ids: Int32[np.ndarray, " n"] | None = None,
) -> Choice:
    """Return the weight with the highest validation nDCG@10, the first of equals, and what each weight brought.

    Items that share one of `ids` and have one score are a tie, over whose ranks the mean is taken.
    """
    queries, masked, targets = validation_set(histories, items, settings.choose_on)
    parts = [
        Scores(file.arrays, histories.query_count, items, f"factors of {part}")
        for part, file in ((settings.base, base), (settings.added, added))
    ]
    values = np.zeros((len(settings.weights), len(queries)))
    for start in range(0, len(queries), parts[0].block_rows):
        block = slice(start, start + parts[0].block_rows)
        first, second = (scores.for_queries(queries[block]) for scores in parts)
        for index, weight in enumerate(settings.weights):
            scores = first + np.float32(weight) * second
            ranks = dense_ranks(scores, masked[block], targets[block])  # excluded items have -inf from here on
            sharing = None if ids is None else tied_by_id(scores, targets[block], ids).sum(axis=1)
            values[index, block] = metric_at_k(ranks, "ndcg", 10, sharing)
    means = [float(of_weight.mean()) if len(queries) else 0.0 for of_weight in values]
    trials = [{"weight": weight, METRIC: mean} for weight, mean in zip(settings.weights, means, strict=True)]
    best = max(trials, key=lambda trial: trial[METRIC])
    return Choice({"weight": best["weight"]}, trials)


def weighted_sum(base: ScoreFactors, added: ScoreFactors, weight: float) -> ScoreFactors:
    """Return factors whose scores are those of `base` plus `weight` times those of `added`."""
    states, matrices, evidence, relations = [], [], [], []
    for part, factor in ((base, np.float32(1)), (added, np.float32(weight))):
        if part.states is not None and part.matrix is not None:
            states.append(factor * part.states)
            matrices.append(part.matrix)
        if part.evidence is not None and part.relation is not None:
            evidence.append(factor * part.evidence)
            relations.append(part.relation)
    return ScoreFactors(
        np.hstack(states) if states else None,
        np.hstack(matrices) if matrices else None,
        csr_matrix(sparse.hstack(evidence), dtype=np.float32) if evidence else None,
        csr_matrix(sparse.vstack(relations), dtype=np.float32) if relations else None,
    )
