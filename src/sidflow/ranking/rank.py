"""From factors to the top items and the target's rank, among all and among sampled negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.artifacts.evaluation import HELD_OUT_RANK, LISTED, SHARED_IDS
from sidflow.artifacts.recommenders import IDS
from sidflow.core.params import Params
from sidflow.ranking.scores import Scores, TopK, tied_by_id, top_k_of_scores
from sidflow.sequences.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Int32, Int64


class RankParams(Params):
    """What is recommended, and against which items the target is ranked."""

    exclude_history: bool = Field(
        default=True, description="true: a user's own items are not recommended; a target among them is a miss"
    )
    top: int = Field(
        default=20, ge=20, le=1_000, description="items kept per query; 20 is the largest cutoff of the metrics"
    )
    negatives: int = Field(default=100, ge=1, le=10_000, description="items per query of the sampled protocol")
    seed: int = Field(default=42, ge=0, description="of the negatives")


_CHUNK = 2_048  # queries sampled at once; the samples depend on it, so it is no setting


def sample_negatives(histories: Histories, items: int, count: int, seed: int) -> Int32[np.ndarray, "q count"]:
    """Return distinct items for every query, uniform among those that are neither in its history nor its target.

    Where fewer than `count` items are left, all of them are taken and the row ends in -1.
    """
    generator = np.random.default_rng(seed)
    negatives = np.full((histories.query_count, count), -1, dtype=np.int32)
    for start in range(0, histories.query_count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, histories.query_count))
        seen, targets = histories.seen(items, rows), histories.targets[rows]
        proposals = generator.integers(items, size=(len(rows), 2 * count + 16))
        flat_seen = np.asarray(seen[np.repeat(np.arange(len(rows)), proposals.shape[1]), proposals.ravel()])
        excluded = flat_seen.reshape(proposals.shape) | (proposals == targets[:, None])
        usable = ~excluded & _first_occurrence(proposals)
        position = np.cumsum(usable, axis=1) - 1
        row, column = np.nonzero(usable & (position < count))
        negatives[start + row, position[row, column]] = proposals[row, column]
        for short_row in np.flatnonzero(usable.sum(axis=1) < count):  # small catalogues, long histories
            free = np.ones(items, dtype=bool)
            free[seen.indices[seen.indptr[short_row] : seen.indptr[short_row + 1]]] = False
            free[targets[short_row]] = False
            sample = generator.permutation(np.flatnonzero(free))[:count]
            negatives[start + short_row] = -1
            negatives[start + short_row, : len(sample)] = sample
    return negatives


def _first_occurrence(values: Int64[np.ndarray, "b n"]) -> Bool[np.ndarray, "b n"]:
    """Return where a value occurs in its row for the first time."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first


class Ranking(NamedTuple):
    """A recommender's top items and the targets' ranks, query by query."""

    top: TopK
    rank: Int32[np.ndarray, " q"]  # 1 = best; beyond all candidates and cutoffs where the target is seen, or not listed
    candidates: Int32[np.ndarray, " q"]
    sampled_rank: Int32[np.ndarray, " q"]
    sharing: Int32[np.ndarray, " q"] | None = None  # where items share IDs, as are the next; see SHARED_IDS
    id_rank: Int32[np.ndarray, " q"] | None = None
    sampled_sharing: Int32[np.ndarray, " q"] | None = None
    held_out_rank: Int32[np.ndarray, " q"] | None = None  # where items are held out; see HELD_OUT_RANK
    listed: Bool[np.ndarray, " q"] | None = None  # where only items of a list have a score; see LISTED

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the tables TOP and TARGET_RANKS."""
        query = pl.Series("query_id", np.arange(len(self.rank)), dtype=pl.Int32)
        k = self.top.items.shape[1]
        top = pl.DataFrame(
            [
                query,
                pl.Series("items", self.top.items, dtype=pl.Array(pl.Int32, k)),
                pl.Series("scores", self.top.scores, dtype=pl.Array(pl.Float32, k)),
            ]
        )
        ranks = pl.DataFrame(
            [query]
            + [
                pl.Series(name, getattr(self, name), dtype=pl.Boolean if name == LISTED else pl.Int32)
                for name in ("rank", "candidates", "sampled_rank", *SHARED_IDS, HELD_OUT_RANK, LISTED)
                if getattr(self, name) is not None
            ]
        )
        return top, ranks


def rank_targets(
    arrays: Mapping[str, np.ndarray],
    histories: Histories,
    items: int,
    settings: RankParams,
    name: str = "factors",
    held_out: Bool[np.ndarray, " n"] | None = None,
    *,
    lists: bool = False,
) -> Ranking:
    """Return the rank of every query's target by exact inner product, ties against it, and the top items.

    Args:
        arrays: of a FACTORS artifact.
        histories: queries, their histories and targets.
        items: number of candidates (core items).
        settings: the knobs.
        name: of the factors in error messages.
        held_out: items that are ranked among themselves too, where they are targets.
        lists: whether the items of a list alone have a score, above 0. The others are recommended nowhere, and misses.

    Raises:
        InputError: the factors do not fit the queries and items, or a score is not finite.
    """
    scores = Scores(arrays, histories.query_count, items, name)
    excluded = histories.excluded(items)
    negatives = sample_negatives(histories, items, settings.negatives, settings.seed)
    ranking = Ranking(
        top=TopK.empty(histories.query_count, settings.top),
        rank=np.zeros(histories.query_count, dtype=np.int32),
        candidates=(items - np.diff(excluded.indptr)).astype(np.int32),
        sampled_rank=np.zeros(histories.query_count, dtype=np.int32),
    )
    ids = arrays.get(IDS)
    if ids is not None:
        zeros = np.zeros((len(SHARED_IDS), histories.query_count), dtype=np.int32)
        ranking = ranking._replace(**dict(zip(SHARED_IDS, zeros, strict=True)))
    if held_out is not None:
        ranking = ranking._replace(held_out_rank=np.zeros(histories.query_count, dtype=np.int32))
    if lists:
        ranking = ranking._replace(listed=np.zeros(histories.query_count, dtype=bool))
    for start in range(0, histories.query_count, scores.block_rows):
        rows = np.arange(start, min(start + scores.block_rows, histories.query_count))
        _rank_block(ranking, rows, scores, excluded, negatives, histories.targets, ids, held_out)
    return ranking


def _rank_block(
    ranking: Ranking,
    rows: Int64[np.ndarray, " b"],
    scores: Scores,
    excluded: csr_matrix,
    negatives: Int32[np.ndarray, "q count"],
    targets: Int64[np.ndarray, " q"],
    ids: Int32[np.ndarray, " n"] | None,
    held_out: Bool[np.ndarray, " n"] | None,
) -> None:
    """Write the results of the queries `rows` into `ranking`."""
    block = scores.for_queries(rows)
    local = np.arange(len(rows))
    if ranking.listed is not None:
        block[block <= 0] = -np.inf  # on no list
    target = block[local, targets[rows]][:, None]
    block[excluded[rows].nonzero()] = -np.inf
    missed = np.isneginf(block[local, targets[rows]])
    if ranking.listed is not None:
        ranking.listed[rows] = ~missed
    sampled = negatives[rows]
    sampled_scores = np.where(sampled >= 0, block[local[:, None], np.maximum(sampled, 0)], -np.inf)
    # The target is at least as good as itself, which makes the first rank 1. Where it is excluded, or on no list, it
    # ranks behind all candidates and beyond every cutoff.
    k = ranking.top.items.shape[1]
    last, last_sampled = np.maximum(ranking.candidates[rows], k), np.maximum((sampled >= 0).sum(axis=1), k)
    ranking.rank[rows] = np.where(missed, last + 1, (block >= target).sum(axis=1))
    ranking.sampled_rank[rows] = np.where(missed, last_sampled, (sampled_scores >= target).sum(axis=1)) + 1
    if ids is not None:
        assert ranking.sharing is not None and ranking.id_rank is not None and ranking.sampled_sharing is not None
        tied = tied_by_id(block, targets[rows], ids)
        ranking.sharing[rows] = tied.sum(axis=1)
        tied_sampled = (sampled >= 0) & tied[local[:, None], np.maximum(sampled, 0)]
        ranking.sampled_sharing[rows] = tied_sampled.sum(axis=1)
        order = np.argsort(ids, kind="stable")
        best_of_id = np.maximum.reduceat(block[:, order], np.flatnonzero(np.diff(ids[order], prepend=-1)), axis=1)
        best_of_own = np.where(ids == ids[targets[rows]][:, None], block, -np.inf).max(axis=1, keepdims=True)
        ranking.id_rank[rows] = np.where(missed, last + 1, (best_of_id >= best_of_own).sum(axis=1))
    if held_out is not None and ranking.held_out_rank is not None:
        among = np.where(missed, last + 1, (block[:, held_out] >= target).sum(axis=1))
        ranking.held_out_rank[rows] = np.where(held_out[targets[rows]], among, 0)
    ranking.top.write(rows, top_k_of_scores(block, k))
