"""Full-ranking validation while training: the same ranks as the rank stage, on the training device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sidflow.contracts.histories import Histories


class Validation:
    """The validation queries, with what they must not recommend."""

    def __init__(self, histories: Histories, items: int, *, exclude_history: bool = True, block: int = 512) -> None:
        """Select the validation queries of `histories` over `items` candidates."""
        self.queries = np.flatnonzero(histories.query_valid)
        self.targets = torch.from_numpy(histories.targets[self.queries])
        self.seen = histories.seen(items, self.queries) if exclude_history else None
        self.block = block

    def ranks(self, query_states: Tensor, item_matrix: Tensor) -> Tensor:
        """Return each target's rank among the candidates, 1 = best, ties against the target, int64 [q].

        Args:
            query_states: [q, d], rows as in `self.queries`.
            item_matrix: [n, d].
        """
        ranks = []
        for start in range(0, len(self.queries), self.block):
            stop = min(start + self.block, len(self.queries))
            scores = query_states[start:stop].float() @ item_matrix.float().T
            target = self.targets[start:stop].to(scores.device)
            own = scores.gather(1, target[:, None])
            excluded = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
            if self.seen is not None:
                part = self.seen[start:stop].tocoo()
                rows = torch.from_numpy(part.row.astype(np.int64)).to(scores.device)
                columns = torch.from_numpy(part.col.astype(np.int64)).to(scores.device)
                scores[rows, columns] = -torch.inf
                excluded[rows[columns == target[rows]]] = True
            rank = (scores >= own).sum(1) + excluded.long()
            ranks.append(torch.where(excluded, torch.full_like(rank, scores.shape[1]), rank).cpu())
        return torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.int64)

    def figures(self, query_states: Tensor, item_matrix: Tensor) -> dict[str, float]:
        """Return NDCG@10 and recall@10 over all validation queries."""
        ranks = self.ranks(query_states, item_matrix).double()
        hit = ranks <= 10
        gain = torch.where(hit, 1 / torch.log2(ranks + 1), torch.zeros_like(ranks))
        count = max(1, len(ranks))
        return {"valid_ndcg_at_10": float(gain.sum()) / count, "valid_recall_at_10": float(hit.sum()) / count}
