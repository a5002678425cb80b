"""Full-ranking validation after each epoch: the same ranks as the rank stage, on the training device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from sidflow.metrics.ranking import Metric, metric_at_k
from sidflow.sequences.histories import Histories
from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Float, Int


VALIDATED: tuple[Metric, ...] = ("ndcg", "recall")  # at 10
BLOCK = 512  # queries that are ranked at a time
BLOCK_SCORES = 32_000_000  # scores that are held at a time, at most: 128 MB in float32


class QueryBlock(NamedTuple):
    """Some validation queries, with their targets and excluded items."""

    rows: slice  # of the validation queries
    targets: Int[Tensor, " b"]
    excluded: tuple[Tensor, Tensor]  # (row in the block, item) of each item that is no candidate

    def ranks(self, scores: Float[Tensor, "b n"]) -> Int[Tensor, " b"]:
        """Return each target's rank by `scores`, which are overwritten; 1 = best, ties against the target.

        A target that is no candidate comes last. NaN scores count against the target.
        """
        target_scores = scores.gather(1, self.targets[:, None])
        scores[self.excluded] = -torch.inf
        last = scores.gather(1, self.targets[:, None])[:, 0].isneginf()
        worse = (scores < target_scores).view(torch.uint8)  # a CPU sums bools, or into int64, several times as slowly
        rank = scores.shape[1] - worse.sum(1, dtype=torch.int32)
        return torch.where(last, torch.full_like(rank, scores.shape[1]), rank)


class Validation:
    """The validation queries, with the items that are no candidates for each."""

    def __init__(self, histories: Histories, items: int, *, block: int | None = None) -> None:
        """Select the validation queries of `histories` over `items` candidates, ranked `block` at a time."""
        self.queries = np.flatnonzero(histories.query_valid)
        self.targets = torch.from_numpy(histories.targets[self.queries])
        self.excluded = histories.excluded(items, self.queries)
        self.block = block or max(1, min(BLOCK, BLOCK_SCORES // max(1, items)))

    def blocks(self, device: torch.device) -> Iterator[QueryBlock]:
        """Yield all queries in blocks of at most `block`, so that their scores fit in memory."""
        for start in range(0, len(self.queries), self.block):
            rows = slice(start, min(start + self.block, len(self.queries)))
            yield QueryBlock(
                rows, self.targets[rows].to(device), nonzero_coordinates(csr_matrix(self.excluded[rows]), device)
            )

    def ranks(self, query_states: Float[Tensor, "q d"], item_matrix: Float[Tensor, "n d"]) -> Int[Tensor, " q"]:
        """Return each target's rank among the candidates, 1 = best, ties against the target.

        Args:
            query_states: rows as in `self.queries`.
            item_matrix: of the candidates.
        """
        ranks = torch.zeros(len(self.queries), dtype=torch.int64)
        for block in self.blocks(query_states.device):
            with full_precision(query_states.device):
                scores = query_states[block.rows].float() @ item_matrix.float().T
            ranks[block.rows] = block.ranks(scores).cpu()
        return ranks

    def metrics(self, query_states: Float[Tensor, "q d"], item_matrix: Float[Tensor, "n d"]) -> dict[str, float]:
        """Return nDCG@10 and recall@10 over all validation queries."""
        return validation_metrics(self.ranks(query_states, item_matrix))


def nonzero_coordinates(matrix: csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return row and column of every entry of `matrix`, row by row."""
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    return torch.from_numpy(rows).to(device), torch.from_numpy(matrix.indices.astype(np.int64)).to(device)


def validation_metrics(ranks: Int[Tensor, " q"], sharing: Int[np.ndarray, " q"] | None = None) -> dict[str, float]:
    """Return nDCG@10 and recall@10 of queries with one target each.

    Args:
        ranks: of the targets, 1 = best.
        sharing: as in `metric_at_k`.
    """
    rank_array = ranks.numpy(force=True)
    if not len(rank_array):
        return {"valid_ndcg_at_10": 0.0, "valid_recall_at_10": 0.0}
    return {f"valid_{metric}_at_10": float(metric_at_k(rank_array, metric, 10, sharing).mean()) for metric in VALIDATED}
