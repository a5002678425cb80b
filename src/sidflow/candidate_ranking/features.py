"""Features of candidates: what a history's items say for each item, and which items have the most of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.relations import Relations, largest_columns
from sidflow.sequences.cooccurrence import strongest_per_row
from sidflow.sequences.slices import HistorySlices, recent_items, weighted_last_items

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int


BLOCK_SCORES = 1_000_000  # sums of features that are held at a time
SCALE_HISTORIES = 512  # histories that features are scaled by
STEPS = (1, 2, 3)  # steps back of the items whose cosines are features of their own


class Candidates(NamedTuple):
    """The candidates of each history, in the order of item ids: those of p are `[indptr[p]:indptr[p + 1]]`."""

    indptr: Int[np.ndarray, " p_plus_1"]
    items: Int[np.ndarray, " c"]
    values: Float16[np.ndarray, "c f"]  # features, scaled

    def positions(self, targets: Int[np.ndarray, " p"], items: int) -> Int[np.ndarray, " p"]:
        """Return where each history's target stands among all candidates; -1 where it is none.

        Args:
            targets: item ids.
            items: of the core.
        """
        rows = np.repeat(np.arange(len(targets)), np.diff(self.indptr))
        keys, wanted = rows * items + self.items, np.arange(len(targets)) * items + targets
        positions = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
        matches = keys[positions] == wanted if len(keys) else np.zeros(len(wanted), dtype=bool)
        return np.where(matches, positions, -1)


def feature_names(relations: Relations) -> list[str]:
    """Return the names of the features, in the order of their columns."""
    compared = [f"{name}.{part}" for name in relations.compared for part in (*map(str, STEPS), "recent", "mean")]
    return [*relations.counted, *compared]


class HistoryWeights(NamedTuple):
    """The items of some histories, weighted in several ways, each float32 CSR [p, n]."""

    recent: csr_matrix  # the last items by 1 / steps back ** recency
    whole: csr_matrix  # all items alike
    mean: csr_matrix  # the same, divided by their number; an item that is there twice counts twice
    steps: dict[int, csr_matrix]  # the one item that many steps back


def weighted_items(histories: HistorySlices, items: int, params: CandidateRankerParams) -> HistoryWeights:
    """Return the weights of the items of `histories`; those outside the core of `items` items have none."""
    whole = item_counts(histories, items)
    shares = np.reciprocal(np.maximum(np.asarray(whole.sum(axis=1)).ravel(), 1))
    steps_back = np.arange(1, params.last + 1, dtype=np.float64)
    near = histories.last_items(max(STEPS))
    return HistoryWeights(
        recent=recent_items(histories, steps_back**-params.recency, items),
        whole=whole,
        mean=csr_matrix(sparse.diags(shares) @ whole),
        steps={step: weighted_last_items(near[:, step - 1 : step], np.ones(1), items) for step in STEPS},
    )


def item_counts(histories: HistorySlices, items: int) -> csr_matrix:
    """Return how often each of `items` core items is in each history, float32 CSR [p, n]."""
    row, item = histories.events()
    in_core = item < items
    ones = np.ones(in_core.sum(), dtype=np.float32)
    return csr_matrix((ones, (row[in_core], item[in_core])), shape=(len(histories.stop), items))  # repeats are summed


def evidence(histories: HistorySlices, relations: Relations, params: CandidateRankerParams) -> Iterator[csr_matrix]:
    """Yield every feature of all items after `histories`, unscaled, float32 CSR [p, n], in the order of their names."""
    weights = weighted_items(histories, len(relations.popularity), params)
    weights_of = {"next": weights.steps[1], "shared_users": weights.whole}
    for name, relation in relations.counted.items():
        counts = csr_matrix(weights_of.get(name, weights.recent) @ relation)
        counts.data = np.log1p(np.asarray(counts.data, dtype=np.float32) / params.epsilon)
        yield counts
    for cosines in relations.compared.values():
        yield from (csr_matrix(weights.steps[step] @ cosines) for step in STEPS)
        yield csr_matrix(weights.recent @ cosines)
        yield csr_matrix(weights.mean @ cosines)


def feature_scales(
    histories: HistorySlices, relations: Relations, params: CandidateRankerParams
) -> Float[np.ndarray, " f"]:
    """Return each feature's root mean square where it is not zero, over the first histories; 1 where it always is."""
    features = evidence(histories.rows(slice(SCALE_HISTORIES)), relations, params)
    squares = [float(np.square(matrix.data).mean()) if matrix.nnz else 1.0 for matrix in features]
    return np.sqrt(np.array(squares, dtype=np.float32))


class CandidateSelector(NamedTuple):
    """What candidates are selected by."""

    relations: Relations
    scales: Float[np.ndarray, " f"]  # of the features, as `feature_scales` returns them
    params: CandidateRankerParams
    exclude_history: bool  # whether what a history holds is no candidate

    def select(self, histories: HistorySlices) -> Candidates:
        """Return each history's candidates: the items with the largest sum of scaled features, none without any.

        Of items with equal sums those with lower ids are candidates first.
        """
        step = max(1, BLOCK_SCORES // max(1, len(self.relations.popularity)))
        parts = [
            self._select_in_block(histories.rows(slice(start, start + step)))
            for start in range(0, max(1, len(histories.stop)), step)
        ]
        return Candidates(
            np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]))]),
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def _select_in_block(self, histories: HistorySlices) -> Candidates:
        items = len(self.relations.popularity)
        features = [matrix.tocoo() for matrix in evidence(histories, self.relations, self.params)]
        total = np.zeros((len(histories.stop), items), dtype=np.float32)
        for feature, scale in zip(features, self.scales, strict=True):
            feature.data /= scale
            total[feature.row, feature.col] += feature.data
        if self.exclude_history:
            total[item_counts(histories, items).nonzero()] = 0
        best = strongest_per_row(csr_matrix(largest_columns(total, self.params.candidates)), self.params.candidates)
        positions = np.full(total.shape, -1)
        positions[best.nonzero()] = np.arange(best.nnz)
        values = np.zeros((best.nnz, len(features)), dtype=np.float16)
        for feature, column in zip(features, values.T, strict=True):
            position = positions[feature.row, feature.col]
            column[position[position >= 0]] = feature.data[position >= 0]
        return Candidates(best.indptr, best.indices.astype(np.int64), values)
