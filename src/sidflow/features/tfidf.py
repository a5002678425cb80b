"""Text embeddings without trained weights: TF-IDF, then truncated SVD (latent semantic analysis).

They capture which words occur together in this catalogue, and nothing else of the language.

Source: Deerwester et al. 1990, "Indexing by latent semantic analysis"; randomised SVD of Halko et al. 2011.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from sidflow.features.documents import Pieces
from sidflow.features.params import SpaceParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32


RELATIVE_RANK = 1e-4  # smaller singular values, relative to the largest, are dropped

_TOKEN = re.compile(r"\w+")


class EncodedRows(NamedTuple):
    """One row per document or picture."""

    values: Float32[np.ndarray, "n d"]  # absent rows are zero
    present: Bool[np.ndarray, " n"]  # a text has at least one term of the vocabulary


class TextSpace(NamedTuple):
    """A fitted TF-IDF vocabulary and SVD; without any term, `components` is [0, 1]."""

    vocabulary: dict[str, int]
    weights: Float32[np.ndarray, " terms"]  # inverse document frequency
    components: Float32[np.ndarray, "terms d"]
    params: SpaceParams

    @property
    def width(self) -> int:
        """Number of dimensions of a vector."""
        return self.components.shape[1]

    def encode(self, documents: Sequence[Pieces]) -> EncodedRows:
        """Return the documents' vectors, each scaled to length 1."""
        values = np.asarray(self.weigh(documents) @ self.components, dtype=np.float32)
        length = np.linalg.norm(values, axis=1)
        present = length > 1e-6
        values[present] /= length[present, None]
        values[~present] = 0
        return EncodedRows(values, present)

    def weigh(self, documents: Sequence[Pieces]) -> csr_matrix:
        """Return the documents' TF-IDF, float32 CSR [documents, terms], each scaled to length 1 or zero."""
        return _tfidf_rows(_counts(documents, self.vocabulary, self.params.ngram), self.weights, self.params)


@lru_cache(maxsize=1 << 18)
def extract_terms(piece: str, ngram: int) -> tuple[str, ...]:
    """Return the words of a piece, in lower case without accents, and their n-grams up to `ngram` words.

    Single letters are left out, single digits are not.

    >>> extract_terms("Café au lait, 2 a", 2)
    ('cafe', 'au', 'lait', '2', 'cafe au', 'au lait', 'lait 2')
    """
    decomposed = unicodedata.normalize("NFKD", piece.lower())
    without_accents = (
        "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        if not decomposed.isascii()
        else decomposed
    )
    words = [word for word in _TOKEN.findall(without_accents.replace("_", " ")) if len(word) > 1 or word.isdigit()]
    sizes = range(2, ngram + 1)
    ngrams = (words[start : start + size] for size in sizes for start in range(len(words) - size + 1))
    return (*words, *map(" ".join, ngrams))


def fit_text_space(documents: Sequence[Pieces], params: SpaceParams, seed: int) -> TextSpace:
    """Return the text space fitted on `documents`.

    The width is `params.dim`, or the number of relevant singular values where that is less (at least 1).
    """
    nonempty = [document for document in documents if document]
    vocabulary = _select_terms(nonempty, params)
    if not vocabulary:
        return TextSpace({}, np.zeros(0, np.float32), np.zeros((0, 1), np.float32), params)
    counts = _counts(nonempty, vocabulary, params.ngram)
    frequency = np.bincount(counts.indices, minlength=len(vocabulary))
    weights = (np.log((1 + len(nonempty)) / (1 + frequency)) + 1).astype(np.float32)
    return TextSpace(
        vocabulary,
        weights,
        _right_singular_vectors(_tfidf_rows(counts, weights, params), len(weights), params, seed),
        params,
    )


def _select_terms(documents: Sequence[Pieces], params: SpaceParams) -> dict[str, int]:
    frequency: dict[str, int] = {}
    for document in documents:
        for term in {term for piece in document for term in extract_terms(piece, params.ngram)}:
            frequency[term] = frequency.get(term, 0) + 1
    max_documents = max(params.max_df * len(documents), params.min_df)
    eligible = [term for term, count in frequency.items() if params.min_df <= count <= max_documents]
    selected = sorted(eligible, key=lambda term: (-frequency[term], term))[: params.max_features]
    return {term: index for index, term in enumerate(sorted(selected))}


def _counts(documents: Sequence[Pieces], vocabulary: dict[str, int], ngram: int) -> csr_matrix:
    """Return the count of each term in each document, float32 CSR [documents, terms]."""
    indptr, indices = [0], []
    for document in documents:
        for piece in document:
            indices.extend(vocabulary[term] for term in extract_terms(piece, ngram) if term in vocabulary)
        indptr.append(len(indices))
    ones = np.ones(len(indices), dtype=np.float32)
    counts = csr_matrix((ones, np.array(indices, np.int32), indptr), shape=(len(documents), len(vocabulary)))
    counts.sum_duplicates()
    return counts


def _tfidf_rows(counts: csr_matrix, weights: np.ndarray, params: SpaceParams) -> csr_matrix:
    """Return TF-IDF rows of length 1."""
    data = 1 + np.log(counts.data) if params.sublinear else counts.data
    data = data * weights[counts.indices]
    height = len(counts.indptr) - 1
    row = counts.tocoo().row
    length = np.sqrt(np.bincount(row, np.square(data), minlength=height))
    unit = (data / length[row]).astype(np.float32)
    return csr_matrix((unit, counts.indices, counts.indptr), shape=(height, len(weights)))


def _right_singular_vectors(weighted: csr_matrix, term_count: int, params: SpaceParams, seed: int) -> np.ndarray:
    """Return the leading right singular vectors [terms, d], each with its largest entry positive.

    Source: Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1: power iterations from a random start, orthonormalised
    after each, then the exact SVD of the small matrix through its Gram matrix.
    """
    max_rank = min(len(weighted.indptr) - 1, term_count)
    width = min(params.dim, max_rank)
    transposed = weighted.T.tocsr()
    start = np.random.default_rng(seed).standard_normal((term_count, min(max_rank, width + max(10, width // 8))))
    basis = np.linalg.qr(weighted @ start)[0]
    for _ in range(params.iterations):
        basis = np.linalg.qr(weighted @ (transposed @ basis))[0]
    projected = transposed @ basis
    eigenvalues, rotation = np.linalg.eigh(projected.T @ projected)
    singular_values = np.sqrt(np.maximum(eigenvalues[::-1], 0))
    rows = (projected @ rotation[:, ::-1][:, :width] / np.maximum(singular_values[:width], 1e-12)).T
    rank = max(1, int((singular_values[:width] > RELATIVE_RANK * singular_values[0]).sum()))
    signs = np.sign(rows[np.arange(rank), np.abs(rows[:rank]).argmax(axis=1)])
    return np.ascontiguousarray((rows[:rank] * signs[:, None]).T, dtype=np.float32)
