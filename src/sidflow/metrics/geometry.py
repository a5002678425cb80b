"""Geometry of item vectors: cosines, nearest neighbours, Kendall's tau of distances, singular values.

Kendall's tau is taken over pairs of a user's history items, ranked by their distance to the target item, in the
original and in the quantized (or fine-tuned) space: (concordant - discordant) / pairs. Ties count as neither, so a
space in which all items coincide has tau 0.

Source: MME-SID (arXiv 2509.02017) for tau; `Spectrum` names the sources of its metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.core.faiss import import_faiss

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Integer


TRIPLES_PER_BLOCK = 2_000  # bounds the memory at 4096 dimensions
MAX_HISTORY = 50  # last items of a history that tau is taken over: pairs grow with the square
SPECTRUM_ROWS = 20_000  # that isotropy and cosine are measured on, at most, evenly spaced
COLLAPSED_BELOW = 1e-3  # share of the largest singular value below which a dimension counts as collapsed
_ROWS_PER_BLOCK = 65_536  # of the Gram matrix


@overload
def unit_rows(
    values: Float[np.ndarray, "n d"], present: Bool[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "n d"]: ...
@overload
def unit_rows(values: csr_matrix, present: Bool[np.ndarray, " n"] | None = None) -> csr_matrix: ...
def unit_rows(
    values: Float[np.ndarray, "n d"] | csr_matrix, present: Bool[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "n d"] | csr_matrix:
    """Return rows scaled to length 1, float32; zero rows, and those that are not `present`, are zero."""
    if isinstance(values, csr_matrix):
        lengths = np.sqrt(np.asarray(values.power(2).sum(axis=1), dtype=np.float64)).ravel()
        scales = (1 if present is None else present) / np.where(lengths > 0, lengths, 1)
        return csr_matrix(sparse.diags(scales) @ values, dtype=np.float32)
    masked = values if present is None else values * present[:, None]
    lengths = np.linalg.norm(masked.astype(np.float64), axis=1, keepdims=True)
    return (masked / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def nearest_neighbours(
    values: Float[np.ndarray, "n d"], k: int, metric: Literal["euclidean", "cosine"] = "euclidean"
) -> Int[np.ndarray, "n k"]:
    """Return the k nearest other rows of every row, nearest first (exact search by faiss).

    Args:
        values: the vectors.
        k: number of neighbours, 1 to n - 1.
        metric: `euclidean`, or `cosine` (rows are scaled to length 1 first).

    Raises:
        ValueError: k is not in 1 to n - 1.
    """
    n = len(values)
    if not 1 <= k <= n - 1:
        raise ValueError(f"k is {k}, but must be in 1 to {n - 1}")
    rows = unit_rows(values) if metric == "cosine" else np.ascontiguousarray(values, dtype=np.float32)
    index = import_faiss().IndexFlatL2(rows.shape[1])
    index.add(rows)
    neighbours = index.search(rows, k + 1)[1]
    is_self = neighbours == np.arange(n)[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # more than k duplicates: any k of them are right
    return neighbours[~is_self].reshape(n, k)


def sparse_nearest_neighbours(values: csr_matrix, k: int, block: int = 1024) -> Int[np.ndarray, "n k"]:
    """Return the k nearest other rows of every row by cosine, nearest first, ties by position.

    Args:
        values: the vectors, CSR [n, d].
        k: number of neighbours, 1 to n - 1; -1 stands where no further row has a cosine above 0.
        block: rows compared at a time.
    """
    rows, n = unit_rows(values), len(values.indptr) - 1
    columns = csr_matrix(rows.T)
    neighbours = np.full((n, k), -1, dtype=np.int64)
    for start in range(0, n, block):
        cosines = (rows[start : start + block] @ columns).toarray()
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        near = np.take_along_axis(cosines, order, axis=1) > 0
        neighbours[start : start + len(cosines)] = np.where(near, order, -1)
    return neighbours


def shared_neighbours(first: Int[np.ndarray, "n k"], second: Int[np.ndarray, "n k"]) -> float:
    """Return the share of the neighbours in `first` that the same row of `second` has too; -1 is no neighbour."""
    offsets = np.arange(len(first))[:, None] * len(first)  # makes one integer of (row, neighbour)
    shared = np.isin((first + offsets)[first >= 0], (second + offsets)[second >= 0]).sum()
    return float(shared / first.size)


def neighbour_recall(original: Float[np.ndarray, "n d"], changed: Float[np.ndarray, "n e"], k: int) -> float:
    """Return the mean share of the k nearest neighbours before that are still among the k nearest after.

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        k: number of neighbours; fewer where there are fewer items, NaN where there are fewer than two.
    """
    k = min(k, len(original) - 1)
    if k < 1:
        return float("nan")
    return shared_neighbours(nearest_neighbours(original, k), nearest_neighbours(changed, k))


class Tau(NamedTuple):
    """Kendall's tau, and what it was measured over."""

    value: float  # NaN without pairs
    references: int  # queries, or distinct items, from which distances are measured
    pairs: int


def tau_over_histories(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    histories: list[np.ndarray],
    targets: Integer[np.ndarray, " q"],
    present: Bool[np.ndarray, " n"] | None = None,
) -> Tau:
    """Return tau over pairs of history items, ordered by distance to the query's target; mean over queries.

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        histories: item ids of each query's history.
        targets: each query's item from which distances are measured.
        present: which items have vectors in both; others, and the target itself, are left out.
    """
    usable = np.ones(len(original), dtype=bool) if present is None else present
    total, queries, pairs = 0.0, 0, 0
    for history, target in zip(histories, targets, strict=True):
        if not usable[target]:
            continue
        items = np.unique(history[-MAX_HISTORY:])
        items = items[usable[items] & (items != target)]
        if len(items) < 2:
            continue
        before, after = (_distance_order(space, items, target) for space in (original, changed))
        count = len(items) * (len(items) - 1)  # ordered pairs: every pair twice, in both sums
        total += float((before * after).sum()) / count
        queries += 1
        pairs += count // 2
    return Tau(total / queries if queries else float("nan"), queries, pairs)


def tau_over_triples(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    generator: np.random.Generator,
    present: Bool[np.ndarray, " n"] | None = None,
    triples: int = 20_000,
) -> Tau:
    """Return tau over random triples of items (reference, a, b): is a nearer to the reference than b?

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        generator: draws the triples.
        present: which items have vectors in both.
        triples: how many are drawn; those with an item twice are left out.
    """
    items = np.arange(len(original)) if present is None else np.flatnonzero(present)
    if len(items) < 3:
        return Tau(float("nan"), 0, 0)
    reference, a, b = (items[generator.integers(len(items), size=triples)] for _ in range(3))
    distinct = (reference != a) & (reference != b) & (a != b)
    reference, a, b = reference[distinct], a[distinct], b[distinct]
    if not len(reference):
        return Tau(float("nan"), 0, 0)
    agreement = 0.0
    for start in range(0, len(reference), TRIPLES_PER_BLOCK):
        block = slice(start, start + TRIPLES_PER_BLOCK)
        before, after = (
            np.sign(
                _squared_norms(space[reference[block]] - space[a[block]])
                - _squared_norms(space[reference[block]] - space[b[block]])
            )
            for space in (original, changed)
        )
        agreement += float((before * after).sum())
    return Tau(agreement / len(reference), len(np.unique(reference)), len(reference))


def _squared_norms(rows: np.ndarray) -> np.ndarray:
    return np.square(rows, dtype=np.float64).sum(axis=-1)


def _distance_order(space: np.ndarray, items: np.ndarray, target: int) -> np.ndarray:
    """Return [m, m]: 1 where the row's item is farther from `target` than the column's, -1 where it is nearer."""
    distances = _squared_norms(space[items] - space[target])
    return np.sign(distances[:, None] - distances[None, :])


class Spectrum(NamedTuple):
    """Metrics of an embedding of d dimensions."""

    singular_values: Float[np.ndarray, " m"]  # float64, m = min(n, d), descending
    effective_rank: float  # exp of the entropy of the normalised singular values, 1 to d (Roy and Vetterli 2007)
    information_abundance: float  # sum of singular values over the largest, 1 to d (Guo et al. 2023)
    alive_share: float  # share of the d dimensions that have not collapsed
    isotropy: float  # 0 = one direction dominates, 1 = all directions equal (Mu and Viswanath 2018)
    mean_cosine: float  # between two distinct rows


def singular_values(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " m"]:
    """Return the singular values, float64, descending, computed from the smaller Gram matrix."""
    return np.sqrt(np.clip(np.linalg.eigvalsh(_gram(values))[::-1], 0, None))


def effective_rank(singular: Float[np.ndarray, " m"]) -> float:
    """Return exp(entropy of s / sum s). Source: Roy and Vetterli 2007."""
    if singular.sum() <= 0:
        return 0.0
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def information_abundance(singular: Float[np.ndarray, " m"]) -> float:
    """Return sum s / max s. Source: Guo et al. 2023, On the embedding collapse when scaling up recommenders."""
    return float(singular.sum() / singular.max()) if len(singular) and singular.max() > 0 else 0.0


def alive_share(singular: Float[np.ndarray, " m"], dimensions: int) -> float:
    """Return the share of `dimensions` that have not collapsed, by their singular values."""
    if not len(singular) or singular.max() <= 0:
        return 0.0
    return float((singular > COLLAPSED_BELOW * singular.max()).sum() / dimensions)


def isotropy(values: Float[np.ndarray, "n d"]) -> float:
    """Return min over max of the partition function over the principal directions, rows scaled to length 1.

    Source: Mu and Viswanath 2018, Eq. 5; deviation: unit rows, so that the scale of an embedding does not count.
    """
    rows = _nonzero_unit_rows(values)
    if not len(rows):
        return 0.0
    _, vectors = np.linalg.eigh(rows.T @ rows)
    low, high = np.inf, 0.0
    projections = rows @ vectors
    for sign in (1, -1):
        partition = np.exp(sign * projections).mean(axis=0)
        low, high = min(low, float(partition.min())), max(high, float(partition.max()))
    return low / high


def mean_cosine(values: Float[np.ndarray, "n d"]) -> float:
    """Return the mean cosine between two distinct rows (exact: from the sum of the unit rows)."""
    rows = _nonzero_unit_rows(values)
    n = len(rows)
    return float((np.square(rows.sum(axis=0)).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def compute_spectrum(values: Float[np.ndarray, "n d"]) -> Spectrum:
    """Return all metrics of `values`, item vectors that are present."""
    singular = singular_values(values)
    sample = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), SPECTRUM_ROWS)).astype(int))]
    return Spectrum(
        singular_values=singular,
        effective_rank=effective_rank(singular),
        information_abundance=information_abundance(singular),
        alive_share=alive_share(singular, values.shape[1]),
        isotropy=isotropy(sample),
        mean_cosine=mean_cosine(sample),
    )


def _nonzero_unit_rows(values: np.ndarray) -> np.ndarray:
    """Return the rows that are not zero, scaled to length 1 in float64."""
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    return values[norms > 0].astype(np.float64) / norms[norms > 0, None]


def _gram(values: np.ndarray) -> np.ndarray:
    """Return the smaller of the two Gram matrices, float64."""
    if len(values) <= values.shape[1]:
        rows = values.astype(np.float64)
        return rows @ rows.T
    gram = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values), _ROWS_PER_BLOCK):
        rows = values[start : start + _ROWS_PER_BLOCK].astype(np.float64)
        gram += rows.T @ rows
    return gram
