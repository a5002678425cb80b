"""EASE: the linear model that predicts each item from all others, in closed form.

    B = I - P / diag(P),  P = (X'X + ridge * I)^-1,  zero diagonal;   score = history @ B

B is dense: n = 12,000 items would be 0.6 GB in the cache of everybody. `kept` is therefore a knob: of each item's
column the weights of largest magnitude are stored, and the model is what is stored. The summary says what that costs:
`valid_ndcg_at_10` is of the kept weights, `dense_valid_ndcg_at_10` of all. With `kept` >= n nothing is dropped.

Source: Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data, equations 8 and 9. Deviation: `kept`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.linalg import get_lapack_funcs
from scipy.sparse import csr_matrix

from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting import ties
from sidflow.counting.events import Events, training
from sidflow.recommenders.counting import search, validation
from sidflow.recommenders.counting.params import ChosenParams
from sidflow.recommenders.counting.search import METRIC, Choice

BLOCK = 512  # queries scored at once
BITS = 20  # of a weight's fraction: rounds off what another thread count would change


class EaseParams(ChosenParams):
    """EASE: a linear item-to-item model in closed form."""

    ridges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(10.0, 3.0, 50.0, 200.0, 1000.0),
        min_length=1,
        description="added to each item's own count before the inversion",
    )
    kept: int = Field(default=256, ge=1, description="weights stored per item, the largest")


def weights(events: Events, ridge: float) -> np.ndarray:
    """Return B, float32 [n, n], zero diagonal, multiples of 2**-20."""
    had = events.incidence()
    gram = (had.T @ had).toarray().astype(np.float64, order="F")
    gram[np.diag_indices(events.items)] += ridge
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (gram,))
    factor, _ = potrf(gram, lower=1, overwrite_a=1)
    inverse, _ = potri(factor, lower=1, overwrite_c=1)  # fills the lower triangle only
    scale = 1 / np.diag(inverse)
    lower = np.tril(inverse, -1)
    del gram, factor, inverse
    lower += lower.T
    lower *= -scale[None, :] * 2.0**BITS
    np.rint(lower, out=lower)  # in place, as all of it: n = 12,000 is 1.2 GB a copy
    lower *= 2.0**-BITS
    return lower.astype(np.float32)


def stored(dense: np.ndarray, kept: int) -> csr_matrix:
    """Return the `kept` weights of largest magnitude of every column, and what equals the last, float32 CSR [n, n]."""
    if kept >= len(dense):
        return csr_matrix(dense)
    size = np.abs(dense)
    least = np.partition(size, len(dense) - kept, axis=0)[len(dense) - kept]
    return csr_matrix(np.where(size >= least, dense, 0))


def popularity(events: Events) -> np.ndarray:
    """Return the tie break, below the rounding of one weight, float32 [n]."""
    return ties.below(events.counts(), 2.0**-BITS)


def factors(histories: Histories, events: Events, setting: dict[str, float]) -> Factored:
    """Return histories and the stored weights as the sparse pair, and popularity as the tie break."""
    return Factored(
        states=np.ones((histories.queries, 1), dtype=np.float32),
        matrix=popularity(events)[:, None],
        evidence=csr_matrix(histories.seen(events.items), dtype=np.float32),
        relation=stored(weights(events, setting["ridge"]), int(setting["kept"])),
    )


def choose(histories: Histories, items: int, params: EaseParams) -> Choice:
    """Return the ridge with the highest NDCG@10 of its stored weights on validation queries."""
    events = training(histories, items)
    queries = search.validation_sample(histories, params.choose_on)
    barred, targets = histories.barred(items, queries), histories.targets[queries]
    had, tie = csr_matrix(histories.seen(items, queries), dtype=np.float32), popularity(events)

    def reached(matrix: np.ndarray | csr_matrix) -> float:
        ranks = []
        for start in range(0, len(queries), BLOCK):
            block = slice(start, start + BLOCK)
            product = had[block] @ matrix
            scores = (product if isinstance(product, np.ndarray) else product.toarray()) + tie
            ranks.append(validation.dense_ranks(scores, barred[block], targets[block]))
        return validation.ndcg(np.concatenate(ranks)) if ranks else 0.0

    def tried(ridge: float) -> dict[str, float]:
        dense = weights(events, ridge)
        kept = reached(stored(dense, params.kept))
        return {"ridge": ridge, "kept": params.kept, METRIC: kept, f"dense_{METRIC}": reached(dense)}

    trials = [tried(ridge) for ridge in params.ridges]
    best = max(trials, key=lambda trial: trial[METRIC])
    return Choice({"ridge": best["ridge"], "kept": params.kept}, trials)
