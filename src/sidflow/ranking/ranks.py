"""From factors to what `evaluate` reads: the top items, and the target's rank among all and among the sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from sidflow.contracts.histories import Histories
from sidflow.ranking import negatives, top
from sidflow.ranking.params import RankParams
from sidflow.ranking.scores import Scores

if TYPE_CHECKING:
    from jaxtyping import Int32


class Ranking(NamedTuple):
    """What a recommender put on top, and where it put the target."""

    top: top.Top
    rank: Int32[np.ndarray, " q"]  # 1 = best; beyond all candidates and cutoffs where the target is excluded as seen
    candidates: Int32[np.ndarray, " q"]
    sampled_rank: Int32[np.ndarray, " q"]

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the tables TOP and TARGET_RANKS."""
        query = pl.Series("query_id", np.arange(len(self.rank)), dtype=pl.Int32)
        width = self.top.items.shape[1]
        best = pl.DataFrame(
            [
                query,
                pl.Series("items", self.top.items, dtype=pl.Array(pl.Int32, width)),
                pl.Series("scores", self.top.scores, dtype=pl.Array(pl.Float32, width)),
            ]
        )
        ranks = pl.DataFrame(
            [query]
            + [pl.Series(name, getattr(self, name), dtype=pl.Int32) for name in ("rank", "candidates", "sampled_rank")]
        )
        return best, ranks


def rank(
    arrays: Mapping[str, np.ndarray], histories: Histories, items: int, settings: RankParams, name: str = "factors"
) -> Ranking:
    """Rank every query's target by exact inner product, ties against it, and keep the best items.

    Args:
        arrays: of a FACTORS artifact.
        histories: queries, their histories and targets.
        items: how many candidates there are.
        settings: the knobs.
        name: what errors call the factors.

    Raises:
        InputError: the factors do not fit the queries and items, or a score is not finite.
    """
    scores = Scores(arrays, histories.queries, items, name)
    excluded = histories.barred(items)
    sampled = negatives.draw(histories, items, settings.negatives, settings.seed)
    found = Ranking(
        top=top.Top.empty(histories.queries, settings.top),
        rank=np.zeros(histories.queries, dtype=np.int32),
        candidates=(items - np.diff(excluded.indptr)).astype(np.int32),
        sampled_rank=np.zeros(histories.queries, dtype=np.int32),
    )
    for start in range(0, histories.queries, scores.block_rows):
        rows = np.arange(start, min(start + scores.block_rows, histories.queries))
        _fill(found, rows, scores, excluded, sampled, histories.targets)
    return found


def _fill(
    found: Ranking,
    rows: np.ndarray,
    scores: Scores,
    excluded: csr_matrix,
    sampled: np.ndarray,
    targets: np.ndarray,
) -> None:
    block = scores.of(rows)
    local = np.arange(len(rows))
    part = excluded[rows]
    target = block[local, targets[rows]][:, None]
    block[np.repeat(local, np.diff(part.indptr)), part.indices] = -np.inf
    barred = np.isneginf(block[local, targets[rows]])
    drawn = sampled[rows]
    against = np.where(drawn >= 0, block[local[:, None], np.maximum(drawn, 0)], -np.inf)
    # the target is at least as good as itself: it counts for the 1 that ranks begin with
    # and where it may not be recommended it stands behind all candidates and beyond every cutoff
    lowest = found.top.items.shape[1]
    last, last_sampled = np.maximum(found.candidates[rows], lowest), np.maximum((drawn >= 0).sum(axis=1), lowest)
    found.rank[rows] = np.where(barred, last + 1, (block >= target).sum(axis=1))
    found.sampled_rank[rows] = np.where(barred, last_sampled, (against >= target).sum(axis=1)) + 1
    found.top.put(rows, top.of_block(block, found.top.items.shape[1]))
