"""Answers of a model that generates IDs: lists by beam search, or the log-probability of every item."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix, identity
from torch import Tensor, nn

from sidflow.artifacts.evaluation import CUTOFFS
from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.core.errors import InputError
from sidflow.generative.decoding import Beams, IdModel, beam_search, exact_log_probs, excluded_nodes
from sidflow.generative.tree import PrefixTree, build_tree
from sidflow.generative.vocabulary import ItemIds, Normalise
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import Windows, query_windows, sorted_batches
from sidflow.training.validation import nonzero_coordinates

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int, Int64


BATCH = 16  # histories decoded at a time on a CPU: more do not stay in its cache
BATCH_ACCELERATOR = 128
BATCH_EXACT = 8
EXACT_SCORES = 100_000_000  # scores of an exact ranking at most: 800 MB as sparse factors


class CandidateTree:
    """The candidates of a ranking: core items that have an ID, as a tree of IDs."""

    def __init__(self, ids: ItemIds, count: int, device: torch.device) -> None:
        """Build the tree of the first `count` items.

        Raises:
            InputError: none of them has an ID.
        """
        codes = ids.codes[:count]
        self.count = count
        self.tree: PrefixTree = build_tree(codes, ids.vocabulary.sizes)
        if not self.tree.leaves:
            raise InputError(
                "artifacts/semantic_ids/semantic_ids.parquet",
                expected=f"IDs of some of the {count} core items",
                found="none",
                remedy="name a modality that items have in `ids.modalities`",
            )
        self.leaf = np.full(count, -1, dtype=np.int64)  # of each item
        sizes = np.diff(self.tree.leaf_starts.numpy())
        self.leaf[self.tree.leaf_items.numpy()] = np.repeat(np.arange(self.tree.leaves), sizes)
        self.sizes = sizes
        with_id = np.flatnonzero(self.leaf >= 0)
        self._items_by_leaf = csr_matrix(
            (np.ones(len(with_id), dtype=np.int32), (with_id, self.leaf[with_id])), shape=(count, self.tree.leaves)
        )
        self.tree = self.tree.to(device)

    def excluded_counts(self, excluded: csr_matrix) -> csr_matrix:
        """Return how many items of each ID are excluded, int32 CSR [q, leaves]."""
        return csr_matrix(excluded.astype(np.int32) @ self._items_by_leaf)

    def excluded_leaves(self, excluded: csr_matrix) -> csr_matrix:
        """Return which IDs are no candidates: those all of whose items are excluded, bool CSR [q, leaves]."""
        counts = self.excluded_counts(excluded)
        counts.data = counts.data == self.sizes[counts.indices]
        counts.eliminate_zeros()
        return csr_matrix(counts.astype(bool))

    def ranks(
        self, beams: Beams, targets: Int64[np.ndarray, " q"], excluded: csr_matrix
    ) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
        """Return the rank of each target in its list, and how many other candidates share it, as the rank stage does.

        The rank is the last one of the tie, other IDs of the same log-probability included. It is beyond all items and
        cutoffs where the target is absent or excluded.

        Args:
            beams: of the queries.
            targets: of the queries.
            excluded: items that are no candidates, bool CSR [q, count].
        """
        leaves, rows = beams.leaves.cpu().numpy(), np.arange(len(beams.leaves))
        listed = leaves >= 0
        leaves = np.maximum(leaves, 0)
        sizes = self.sizes[leaves] - self.excluded_counts(excluded)[rows[:, None], leaves].toarray()
        sizes = np.where(listed, sizes, 0)
        hit = (leaves == self.leaf[targets][:, None]) & listed
        column = hit.argmax(1)
        log_probs = beams.log_probs.cpu().numpy()
        at_least = log_probs >= log_probs[rows, column][:, None]
        rank, size = (sizes * at_least).sum(axis=1), sizes[rows, column]
        entries = np.repeat(rows, np.diff(excluded.indptr)) * self.count + excluded.indices
        is_hit = hit.any(1) & ~np.isin(rows * self.count + targets, entries)
        return np.where(is_hit, rank, max(self.count, CUTOFFS[-1]) + 1), np.where(is_hit, size - 1, 0)


class Decoder(NamedTuple):
    """A model with all that decoding needs."""

    model: IdModel
    tokens: Int[Tensor, "n l"]  # of every item
    first_tokens: Int[Tensor, " l"]
    candidates: CandidateTree
    by: Normalise

    @classmethod
    def of(cls, model: nn.Module, ids: ItemIds, candidates: CandidateTree, by: Normalise) -> Decoder:
        """Return the decoder of `model`, on its device."""
        device = next(model.parameters()).device
        tokens = torch.from_numpy(ids.tokens).to(device)
        return cls(model, tokens, torch.from_numpy(ids.vocabulary.first).to(device), candidates, by)  # type: ignore[arg-type]

    def beams(self, windows: Windows, width: int, excluded: csr_matrix | None = None) -> Beams:
        """Return the beams of every window; `excluded` as from `CandidateTree.excluded_leaves`."""
        count = len(windows.lengths)
        shape = (count, width)
        leaves = torch.full(shape, -1, dtype=torch.int32)
        scores = torch.full(shape, -torch.inf)
        size = BATCH if self.tokens.device.type == "cpu" else BATCH_ACCELERATOR
        for rows in sorted_batches(windows.lengths, size):
            tokens, lengths = self.padded(windows, rows)
            tree, nodes = self.candidates.tree, None
            if excluded is not None:
                nodes = excluded_nodes(tree, *nonzero_coordinates(csr_matrix(excluded[rows.numpy()]), tokens.device))
            beams = beam_search(self.model, tree, self.first_tokens, tokens, lengths, width, nodes, self.by)
            listed = beams.leaves.shape[1]
            leaves[rows, :listed], scores[rows, :listed] = beams.leaves.cpu().int(), beams.log_probs.cpu()
        return Beams(leaves, scores)

    def exact_leaves(self, windows: Windows) -> Float[Tensor, "q leaves"]:
        """Return the log-probability of every ID of the tree for each window."""
        result = torch.empty(len(windows.lengths), self.candidates.tree.leaves)
        for rows in sorted_batches(windows.lengths, BATCH_EXACT):
            tokens, lengths = self.padded(windows, rows)
            scores = exact_log_probs(self.model, self.candidates.tree, self.first_tokens, tokens, lengths, by=self.by)
            result[rows] = scores.cpu()
        return result

    def exact(self, windows: Windows) -> Float[np.ndarray, "q n"]:
        """Return the log-probability of every candidate for each window; -inf for an item without an ID."""
        leaf = self.candidates.leaf
        scores = self.exact_leaves(windows).numpy()
        return np.where(leaf >= 0, scores[:, np.maximum(leaf, 0)], -np.inf)

    def padded(self, windows: Windows, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
        """Return the windows `rows` as ID tokens, padded on the right, and their lengths in tokens."""
        items, lengths = (part.to(self.tokens.device) for part in windows.padded(rows))
        return self.tokens[items].flatten(1), lengths * self.tokens.shape[1]


def beam_factors(beams: Beams, candidates: CandidateTree) -> ScoreFactors:
    """Return sparse factors that score the items of each list above all others, in the order of the list.

    Items of one ID have one score. The items that are on no list have the score 0, those that are 1 or more.
    """
    leaves, log_probs = beams.leaves.numpy(), beams.log_probs.numpy()
    listed = leaves >= 0
    starts, items = candidates.tree.leaf_starts.cpu().numpy(), candidates.tree.leaf_items.cpu().numpy()
    sizes = np.where(listed, candidates.sizes[np.maximum(leaves, 0)], 0).ravel()
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # number of an item in its leaf
    columns = items[np.repeat(starts[np.maximum(leaves, 0)].ravel(), sizes) + within]
    values = np.repeat(_from_one(log_probs, listed).ravel(), sizes)
    indptr = np.concatenate([[0], np.cumsum(sizes.reshape(leaves.shape).sum(axis=1))])
    return _factors(values, columns, indptr, candidates.count)


def exact_factors(log_probs: Float[np.ndarray, "q n"]) -> ScoreFactors:
    """Return factors: log-probabilities plus a constant of the query; 0 for an item without an ID."""
    finite = np.isfinite(log_probs)
    rows, columns = np.nonzero(finite)
    values = _from_one(log_probs, finite)[rows, columns]
    indptr = np.concatenate([[0], np.cumsum(finite.sum(axis=1))])
    return _factors(values, columns, indptr, log_probs.shape[1])


def _from_one(log_probs: Float[np.ndarray, "q k"], listed: Bool[np.ndarray, "q k"]) -> Float64[np.ndarray, "q k"]:
    """Return log-probabilities plus a constant a query, so that the lowest that is listed becomes 1."""
    scores = log_probs.astype(np.float64)
    lowest = np.where(listed, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    return scores - np.where(np.isfinite(lowest), lowest, 0.0) + 1.0


def _factors(values: np.ndarray, columns: np.ndarray, indptr: np.ndarray, items: int) -> ScoreFactors:
    evidence = csr_matrix((values.astype(np.float32), columns, indptr), shape=(len(indptr) - 1, items))
    return ScoreFactors(evidence=evidence, relation=csr_matrix(identity(items, dtype="float32")))


def answer_queries(
    decoder: Decoder,
    histories: Histories,
    queries: np.ndarray,
    longest: int,
    width: int,
    excluded: csr_matrix | None = None,
) -> Beams:
    """Return the beams of `queries`, without the IDs that their histories exclude.

    `excluded` are the items that they exclude, bool CSR [q, items], where the caller has them already.
    """
    if excluded is None:
        excluded = histories.excluded(decoder.candidates.count, queries)
    leaves = decoder.candidates.excluded_leaves(excluded)
    return decoder.beams(query_windows(histories, queries, longest), width, leaves)


def ranks_by_beam(
    decoder: Decoder, histories: Histories, queries: np.ndarray, longest: int, width: int
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """Return the ranks of the targets of `queries` and how many share them; see `CandidateTree.ranks`."""
    excluded = histories.excluded(decoder.candidates.count, queries)
    beams = answer_queries(decoder, histories, queries, longest, width, excluded)
    return decoder.candidates.ranks(beams, histories.targets[queries], excluded)
