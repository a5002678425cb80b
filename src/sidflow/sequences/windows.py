"""Sequences of different lengths in batches: windows, batches of similar length, item skipping, right padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import rows_and_positions

if TYPE_CHECKING:
    from jaxtyping import Bool, Int


POOL_BATCHES = 32  # batches whose windows are sorted by length together: little padding, random enough


class Windows(NamedTuple):
    """Slices of one flat array: window w is `items[starts[w] : starts[w] + lengths[w]]`, oldest first."""

    items: Int[Tensor, " events"]
    starts: Int[Tensor, " w"]
    lengths: Int[Tensor, " w"]

    def padded(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
        """Return the windows `rows`, padded on the right with item 0, and their lengths."""
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(rows) else 0
        mask = padding_mask(lengths, width)
        events = torch.where(mask, self.starts[rows, None] + torch.arange(width), 0)
        return self.items[events] * mask, lengths


class KeptItems(NamedTuple):
    """What is left of rows of which items are skipped."""

    columns: Int[Tensor, "b t"]  # that each item had before; those of skipped and padded items last
    lengths: Int[Tensor, " b"]  # of the rows, without the skipped items


class SeededBatch(NamedTuple):
    """A batch of which a part is drawn: the same in every process, and after a resume."""

    rows: Int[Tensor, " b"]  # of windows
    seed: int  # of its negatives, and of what several processes skip
    kept: KeptItems | None = None  # of the rows, where several processes share a batch of which items are skipped


def training_windows(histories: Histories, longest: int, *, overlap: int) -> Windows:
    """Cut each user's training part into windows of at most `longest` items, counted from its end.

    A window of fewer than two items is left out.

    Args:
        histories: the users' sequences.
        longest: items in a window.
        overlap: items that two neighbouring windows share. With 1 each item but a user's first is predicted once from
            the items before it. With 0 no item is in two windows, for models that read in both directions.
    """
    stride = longest - overlap
    count = np.maximum(1, -(-(histories.train_end - overlap) // stride))
    user, from_end = rows_and_positions(count)
    end = histories.train_end[user] - from_end * stride
    start = np.maximum(0, end - longest)
    keep = end - start >= 2
    return Windows(
        _padding_safe(histories.items),
        torch.from_numpy((histories.offsets[user] + start)[keep]),
        torch.from_numpy((end - start)[keep]),
    )


def prefix_windows(histories: Histories, longest: int) -> Windows:
    """Return one window for every training target: up to `longest` items before it, and itself."""
    user, number = rows_and_positions(np.maximum(histories.train_end - 1, 0))
    end = number + 2
    start = np.maximum(0, end - 1 - longest)
    first = histories.offsets[user] + start
    return Windows(_padding_safe(histories.items), torch.from_numpy(first), torch.from_numpy(end - start))


def recent_windows(sequences: Sequence[np.ndarray | Sequence[int]], longest: int) -> Windows:
    """Return the last `longest` items of each sequence."""
    lengths = np.array([min(len(sequence), longest) for sequence in sequences], dtype=np.int64)
    recent = [
        np.asarray(sequence[len(sequence) - length :], dtype=np.int64)
        for sequence, length in zip(sequences, lengths, strict=True)
    ]
    items = np.concatenate([np.zeros(0, dtype=np.int64), *recent])
    return Windows(_padding_safe(items), torch.from_numpy(np.cumsum(lengths) - lengths), torch.from_numpy(lengths))


def query_windows(histories: Histories, queries: np.ndarray, longest: int) -> Windows:
    """Return the last `longest` items of each query's history."""
    ends = histories.query_end[queries]
    starts = np.maximum(0, ends - longest)
    first = histories.offsets[histories.query_user[queries]] + starts
    return Windows(_padding_safe(histories.items), torch.from_numpy(first), torch.from_numpy(ends - starts))


def _padding_safe(items: np.ndarray) -> Int[Tensor, " events"]:
    """Return `items` as int64; never empty, since padding reads event 0."""
    return torch.from_numpy(items.astype(np.int64) if len(items) else np.zeros(1, dtype=np.int64))


def shuffled_batches(
    lengths: Int[Tensor, " w"], size: int, generator: torch.Generator, pool_batches: int = POOL_BATCHES
) -> list[Int[Tensor, " b"]]:
    """Return all row numbers in random batches of `size`, each of rows of similar length.

    Args:
        lengths: of the rows.
        size: rows in a batch.
        generator: of the order.
        pool_batches: batches whose rows are sorted by length together.
    """
    order = torch.randperm(len(lengths), generator=generator)
    pools = [pool[torch.argsort(lengths[pool], stable=True)] for pool in order.split(size * pool_batches)]
    batches = [batch for pool in pools for batch in pool.split(size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def seeded_batches(batches: list[Int[Tensor, " b"]], generator: torch.Generator) -> list[SeededBatch]:
    """Return the batches, each with a seed of its own."""
    seeds = torch.randint(2**62, (len(batches),), generator=generator)
    return [SeededBatch(rows, seed) for rows, seed in zip(batches, seeds.tolist(), strict=True)]


def sorted_batches(lengths: Int[Tensor, " w"], size: int) -> list[Int[Tensor, " b"]]:
    """Return all row numbers, shortest rows first, in batches of `size`."""
    return list(torch.argsort(lengths, stable=True).split(size)) if len(lengths) else []


def skip_items(
    lengths: Int[Tensor, " b"], width: int, skip_share: float, generator: torch.Generator | None = None
) -> KeptItems:
    """Leave out each item of padded rows with probability `skip_share`; the others move up, in their order.

    A row of which fewer than two items would stay keeps all.

    Args:
        lengths: of the rows.
        width: t, of the padded rows.
        skip_share: probability of an item to be left out.
        generator: of the draws; None: the global one.
    """
    mask = padding_mask(lengths, width)
    keep = (torch.rand(mask.shape, device=mask.device, generator=generator) >= skip_share) & mask
    keep = torch.where(keep.sum(1, keepdim=True) >= 2, keep, mask)
    return KeptItems(torch.argsort((~keep).byte(), dim=1, stable=True), keep.sum(1))


def padding_mask(lengths: Int[Tensor, " b"], width: int) -> Bool[Tensor, "b t"]:
    """Return which positions of padded rows hold an item."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]
