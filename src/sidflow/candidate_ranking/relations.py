"""Item-to-item evidence: how often two items occur together, how similar they are, and both in a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import Matrix
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.sequences.cooccurrence import Events, damped_cooccurrence, decaying_weights, strongest_per_row

if TYPE_CHECKING:
    from jaxtyping import Float32, Int


SHRINKAGE = 10  # added to both popularities in the cosine of two items' users
BLOCK = 1024  # rows of a product that are held at a time


class Relations(NamedTuple):
    """Evidence that item j gives for item i, by kind, each float32 CSR [n, n]; and how popular items are."""

    counted: Mapping[str, csr_matrix]  # directed, both_ways, next, shared_users, NAME.linked_from, NAME.linked_to
    compared: Mapping[str, csr_matrix]  # cosines by name of the content
    popularity: Int[np.ndarray, " n"]  # training events

    @property
    def log_popularity(self) -> Float32[np.ndarray, " n"]:
        """Return log(1 + training events)."""
        return np.log1p(self.popularity).astype(np.float32)


def similar_items(rows: Matrix, count: int) -> csr_matrix:
    """Return each item's `count` largest positive cosines to other items, float32 CSR [n, n].

    Args:
        rows: float32 [n, d], of length one, or zero where absent.
        count: of items kept in each row.
    """
    blocks, columns = [], rows.T
    for start in range(0, _row_count(rows), BLOCK):
        cosines = rows[start : start + BLOCK] @ columns
        block = csr_matrix(largest_columns(cosines, count + 1) if isinstance(cosines, np.ndarray) else cosines)
        block.data[(block.indices == block.tocoo().row + start) | (block.data <= 0)] = 0
        block.eliminate_zeros()
        blocks.append(strongest_per_row(block, count))
    return csr_matrix(sparse.vstack(blocks), dtype=np.float32)


def _row_count(matrix: Matrix) -> int:
    return len(matrix) if isinstance(matrix, np.ndarray) else len(matrix.indptr) - 1


def largest_columns(values: np.ndarray, count: int) -> np.ndarray:
    """Return `values` where positive and among the `count` largest of a row or as large as the last of them, else 0."""
    if count < values.shape[1]:
        floor = np.partition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count]
        values = np.where(values >= floor[:, None], values, 0)
    return np.maximum(values, 0)


def linked(first: csr_matrix, second: csr_matrix, per_row: int) -> csr_matrix:
    """Return the `per_row` largest entries of each row of first @ second, float32 CSR [n, n]."""
    blocks = [
        strongest_per_row(csr_matrix(first[start : start + BLOCK] @ second), per_row)
        for start in range(0, _row_count(first), BLOCK)
    ]
    return csr_matrix(sparse.vstack(blocks), dtype=np.float32)


def shared_users(events: Events, per_row: int) -> csr_matrix:
    """Return the cosines of items' sets of users, shrunk for rare items, the `per_row` largest per item."""
    incidence = events.incidence()
    users = np.asarray(incidence.sum(axis=0)).ravel()
    scaled = csr_matrix(incidence @ sparse.diags(1 / np.sqrt(users + SHRINKAGE)), dtype=np.float32)
    shared = csr_matrix(scaled.T @ scaled)
    shared.setdiag(0)
    shared.eliminate_zeros()
    return strongest_per_row(shared, per_row)


def count_relations(events: Events, compared: Mapping[str, csr_matrix], params: CandidateRankerParams) -> Relations:
    """Return the relations of items that `events` and the cosines `compared` give."""
    window = decaying_weights(params.window, params.decay)

    def cooccurrence(weights: np.ndarray, backward: float) -> csr_matrix:
        counts = damped_cooccurrence(events, weights, backward, params.damping)
        return strongest_per_row(counts, params.neighbours)

    directed = cooccurrence(window, params.backward)
    counted = {
        "directed": directed,
        "both_ways": cooccurrence(window, 1.0),
        "next": cooccurrence(window[:1], 0.0),
        "shared_users": shared_users(events, params.neighbours),
    }
    for name, cosines in compared.items():
        close = strongest_per_row(cosines, params.linked)
        counted[f"{name}.linked_from"] = linked(close, directed, params.similar)
        counted[f"{name}.linked_to"] = linked(directed, close, params.similar)
    return Relations(counted, compared, events.counts())
