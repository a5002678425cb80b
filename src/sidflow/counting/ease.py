"""EASE: a linear model in closed form that predicts each item from all others.

    B = I - P / diag(P),  P = (X'X + ridge * I)^-1,  zero diagonal;   score = history @ B

B is dense: 0.6 GB for n = 12,000 items. The model therefore stores the `kept` weights of largest magnitude in each
column of B. In the summary, `valid_ndcg_at_10` is of the stored weights and `dense_valid_ndcg_at_10` of all of them.
With `kept` >= n all weights are stored.

Source: Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data, equations 8 and 9. Deviation: `kept`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.linalg import get_lapack_funcs
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.counting.search import (
    METRIC,
    QUERIES_PER_BLOCK,
    Choice,
    ChosenParams,
    dense_ranks,
    mean_ndcg,
    validation_set,
)
from sidflow.sequences.cooccurrence import Events, tie_breaks, tie_broken_factors, training_events
from sidflow.sequences.histories import Histories

BITS = 20  # of a weight's fraction; rounding makes the result independent of the thread count
STEP = 2.0**-BITS  # the smallest difference between two weights


class EaseParams(ChosenParams):
    """EASE: a linear item-to-item model in closed form."""

    ridges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(10.0, 3.0, 50.0, 200.0, 1000.0),
        min_length=1,
        description="added to each item's own count before the inversion",
    )
    kept: int = Field(default=256, ge=1, description="weights stored per item, the largest")


def ease_weights(events: Events, ridge: float) -> np.ndarray:
    """Return B, float32 [n, n], zero diagonal, multiples of 2**-20."""
    interactions = events.incidence()
    gram = (interactions.T @ interactions).toarray().astype(np.float64, order="F")
    gram[np.diag_indices(events.items)] += ridge
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (gram,))
    factor, _ = potrf(gram, lower=1, overwrite_a=1)
    inverse, _ = potri(factor, lower=1, overwrite_c=1)  # fills the lower triangle alone
    scale = 1 / np.diag(inverse)
    lower = np.tril(inverse, -1)
    del gram, factor, inverse
    lower += lower.T
    lower *= -scale[None, :] * 2.0**BITS
    np.rint(lower, out=lower)  # in place: a copy takes 1.2 GB for n = 12,000
    lower *= STEP
    return lower.astype(np.float32)


def keep_largest(dense: np.ndarray, kept: int) -> csr_matrix:
    """Return the `kept` weights of largest magnitude of every column, ties included, float32 CSR [n, n]."""
    if kept >= len(dense):
        return csr_matrix(dense)
    magnitudes = np.abs(dense)
    threshold = np.partition(magnitudes, len(dense) - kept, axis=0)[len(dense) - kept]
    return csr_matrix(np.where(magnitudes >= threshold, dense, 0))


def ease_factors(histories: Histories, events: Events, setting: dict[str, float]) -> ScoreFactors:
    """Return histories and the stored weights as sparse factors, with popularity as the tie break."""
    seen = csr_matrix(histories.seen(events.items), dtype=np.float32)
    weights = keep_largest(ease_weights(events, setting["ridge"]), int(setting["kept"]))
    return tie_broken_factors(seen, weights, events, STEP)


def choose_ease(histories: Histories, items: int, params: EaseParams) -> Choice:
    """Return the ridge whose stored weights have the highest validation nDCG@10."""
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    interactions, tie = csr_matrix(histories.seen(items, queries), dtype=np.float32), tie_breaks(events.counts(), STEP)

    def ndcg_of(matrix: np.ndarray | csr_matrix) -> float:
        ranks = []
        for start in range(0, len(queries), QUERIES_PER_BLOCK):
            block = slice(start, start + QUERIES_PER_BLOCK)
            product = interactions[block] @ matrix
            scores = (product if isinstance(product, np.ndarray) else product.toarray()) + tie
            ranks.append(dense_ranks(scores, masked[block], targets[block]))
        return mean_ndcg(np.concatenate(ranks)) if ranks else 0.0

    def trial_of(ridge: float) -> dict[str, float]:
        dense = ease_weights(events, ridge)
        stored_ndcg = ndcg_of(keep_largest(dense, params.kept))
        return {"ridge": ridge, "kept": params.kept, METRIC: stored_ndcg, f"dense_{METRIC}": ndcg_of(dense)}

    trials = [trial_of(ridge) for ridge in params.ridges]
    best = max(trials, key=lambda trial: trial[METRIC])
    return Choice({"ridge": best["ridge"], "kept": params.kept}, trials)
