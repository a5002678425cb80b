"""Words as vectors without any weights to download: TF-IDF, then truncated SVD (latent semantic analysis).

Real and weak: it knows which words go together in this catalogue, and nothing of the language.

Source: Deerwester et al. 1990, "Indexing by latent semantic analysis"; the SVD is Halko et al. 2011, randomised.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.embedding.params import SpaceParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

Pieces = Sequence[str]  # one document; terms do not run across the border of two pieces
RELATIVE_RANK = 1e-4  # singular values below this share of the largest are noise, and dropped

_TOKEN = re.compile(r"\w+")


class Vectors(NamedTuple):
    """One row per document."""

    values: Float32[np.ndarray, "n d"]  # of length 1, or zero where absent
    present: Bool[np.ndarray, " n"]  # has at least one term that the space knows


class TextSpace(NamedTuple):
    """A fitted space: `components` is zero terms high and one wide where there was nothing to fit."""

    vocabulary: dict[str, int]
    weights: Float32[np.ndarray, " terms"]  # inverse document frequency
    components: Float32[np.ndarray, "terms d"]
    params: SpaceParams

    @property
    def width(self) -> int:
        """How many dimensions a vector has."""
        return self.components.shape[1]

    def encode(self, documents: Sequence[Pieces]) -> Vectors:
        """Place documents in the space, each scaled to length 1."""
        weighted = _weighted(_counts(documents, self.vocabulary, self.params.ngram), self.weights, self.params)
        values = np.asarray(weighted @ self.components, dtype=np.float32)
        length = np.linalg.norm(values, axis=1)
        present = length > 1e-6
        values[present] /= length[present, None]
        values[~present] = 0
        return Vectors(values, present)


@lru_cache(maxsize=1 << 18)
def terms(piece: str, ngram: int) -> tuple[str, ...]:
    """Return the words of a piece, in lower case and without accents, and the runs of up to `ngram` of them.

    Single letters are no words of their own, single digits are.

    >>> terms("Café au lait, 2 a", 2)
    ('cafe', 'au', 'lait', '2', 'cafe au', 'au lait', 'lait 2')
    """
    plain = unicodedata.normalize("NFKD", piece.lower())
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter)) if not plain.isascii() else plain
    words = [word for word in _TOKEN.findall(bare.replace("_", " ")) if len(word) > 1 or word.isdigit()]
    longer = range(2, ngram + 1)
    runs = (words[start : start + size] for size in longer for start in range(len(words) - size + 1))
    return (*words, *map(" ".join, runs))


def fit(documents: Sequence[Pieces], params: SpaceParams, seed: int) -> TextSpace:
    """Choose the terms and find the directions in which the documents differ most.

    The width is `params.dim`, or the number of singular values that are not noise where that is less (never below 1).
    """
    filled = [document for document in documents if document]
    vocabulary = _choose_terms(filled, params)
    if not vocabulary:
        return TextSpace({}, np.zeros(0, np.float32), np.zeros((0, 1), np.float32), params)
    counts = _counts(filled, vocabulary, params.ngram)
    frequency = np.bincount(counts.indices, minlength=len(vocabulary))
    weights = (np.log((1 + len(filled)) / (1 + frequency)) + 1).astype(np.float32)
    return TextSpace(
        vocabulary, weights, _directions(_weighted(counts, weights, params), len(weights), params, seed), params
    )


def _choose_terms(documents: Sequence[Pieces], params: SpaceParams) -> dict[str, int]:
    frequency: dict[str, int] = {}
    for document in documents:
        for term in {term for piece in document for term in terms(piece, params.ngram)}:
            frequency[term] = frequency.get(term, 0) + 1
    most = max(params.max_df * len(documents), params.min_df)
    fitting = [term for term, count in frequency.items() if params.min_df <= count <= most]
    kept = sorted(fitting, key=lambda term: (-frequency[term], term))[: params.max_features]
    return {term: index for index, term in enumerate(sorted(kept))}


def _counts(documents: Sequence[Pieces], vocabulary: dict[str, int], ngram: int) -> csr_matrix:
    """Return how often each known term stands in each document, float32 CSR [documents, terms]."""
    indptr, indices = [0], []
    for document in documents:
        for piece in document:
            indices.extend(vocabulary[term] for term in terms(piece, ngram) if term in vocabulary)
        indptr.append(len(indices))
    ones = np.ones(len(indices), dtype=np.float32)
    counts = csr_matrix((ones, np.array(indices, np.int32), indptr), shape=(len(documents), len(vocabulary)))
    counts.sum_duplicates()
    return counts


def _weighted(counts: csr_matrix, weights: np.ndarray, params: SpaceParams) -> csr_matrix:
    """Return TF-IDF rows of length 1."""
    data = 1 + np.log(counts.data) if params.sublinear else counts.data
    data = data * weights[counts.indices]
    height = len(counts.indptr) - 1
    rows = np.repeat(np.arange(height), np.diff(counts.indptr))
    length = np.sqrt(np.bincount(rows, np.square(data), minlength=height))
    unit = (data / length[rows]).astype(np.float32)
    return csr_matrix((unit, counts.indices, counts.indptr), shape=(height, len(weights)))


def _directions(weighted: csr_matrix, terms_known: int, params: SpaceParams, seed: int) -> np.ndarray:
    """Return the leading right singular vectors [terms, d], each with its largest entry positive.

    Source: Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1: power iterations from a random start, made
    orthonormal after each, then the exact SVD of the small matrix that is left, through its Gram matrix.
    """
    most = min(len(weighted.indptr) - 1, terms_known)
    width = min(params.dim, most)
    transposed = weighted.T.tocsr()
    start = np.random.default_rng(seed).standard_normal((terms_known, min(most, width + max(10, width // 8))))
    basis = np.linalg.qr(weighted @ start)[0]
    for _ in range(params.iterations):
        basis = np.linalg.qr(weighted @ (transposed @ basis))[0]
    small = transposed @ basis
    squares, turns = np.linalg.eigh(small.T @ small)
    strengths = np.sqrt(np.maximum(squares[::-1], 0))
    rows = (small @ turns[:, ::-1][:, :width] / np.maximum(strengths[:width], 1e-12)).T
    kept = max(1, int((strengths[:width] > RELATIVE_RANK * strengths[0]).sum()))
    signs = np.sign(rows[np.arange(kept), np.abs(rows[:kept]).argmax(axis=1)])
    return np.ascontiguousarray((rows[:kept] * signs[:, None]).T, dtype=np.float32)
