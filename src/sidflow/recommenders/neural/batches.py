"""Sequences of unlike lengths in batches: windows, rows of like length together, right padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidflow.contracts.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

POOL = 32  # batches whose sequences are sorted by length together: little padding, much chance


class Windows(NamedTuple):
    """Pieces of one flat array of items."""

    items: Int[Tensor, " events"]
    starts: Int[Tensor, " w"]
    lengths: Int[Tensor, " w"]

    def padded(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
        """Return windows `rows` side by side, filled up on the right with item 0, and their lengths."""
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(rows) else 0
        steps = torch.arange(width)
        inside = steps[None, :] < lengths[:, None]
        where = torch.where(inside, self.starts[rows, None] + steps[None, :], 0)
        return self.items[where] * inside, lengths


def training_windows(histories: Histories, longest: int, *, overlap: int) -> Windows:
    """Cut each user's training part into windows of at most `longest` items, counted from its end.

    Args:
        histories: whose training parts.
        longest: items in a window.
        overlap: items that a window shares with the next one: 1 where each item is to be predicted once from those
            before it, 0 where items of a window predict one another.

    A window of fewer than two items is left out.
    """
    stride = longest - overlap
    count = np.maximum(1, -(-(histories.train_end - overlap) // stride))
    user = np.repeat(np.arange(histories.user_count), count)
    back = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    end = histories.train_end[user] - back * stride
    start = np.maximum(0, end - longest)
    keep = end - start >= 2
    return Windows(
        torch.from_numpy(histories.items.astype(np.int64)),
        torch.from_numpy((histories.offsets[user] + start)[keep]),
        torch.from_numpy((end - start)[keep]),
    )


def recent_windows(sequences: Sequence[np.ndarray], longest: int) -> Windows:
    """Return the last `longest` items of each sequence."""
    lengths = np.array([min(len(one), longest) for one in sequences], dtype=np.int64)
    kept = [np.asarray(one[len(one) - n :], dtype=np.int64) for one, n in zip(sequences, lengths, strict=True)]
    items = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    items = items if len(items) else np.zeros(1, dtype=np.int64)  # so that padding has something to point at
    return Windows(torch.from_numpy(items), torch.from_numpy(np.cumsum(lengths) - lengths), torch.from_numpy(lengths))


def query_windows(histories: Histories, queries: np.ndarray, longest: int) -> Windows:
    """Return the last `longest` items of each query's history."""
    ends = histories.query_end[queries]
    starts = np.maximum(0, ends - longest)
    first = histories.offsets[histories.query_user[queries]] + starts
    items = histories.items.astype(np.int64) if len(histories.items) else np.zeros(1, dtype=np.int64)
    return Windows(torch.from_numpy(items), torch.from_numpy(first), torch.from_numpy(ends - starts))


def shuffled(lengths: Int[Tensor, " w"], size: int, generator: torch.Generator) -> list[Int[Tensor, " b"]]:
    """Return random batches of `size` row numbers, each of rows of similar length."""
    order = torch.randperm(len(lengths), generator=generator)
    pools = [pool[torch.argsort(lengths[pool], stable=True)] for pool in order.split(size * POOL)]
    batches = [batch for pool in pools for batch in pool.split(size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def thinned(
    items: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], share: float
) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"], Int[Tensor, "b t"]]:
    """Leave out each item of padded rows with probability `share`; the others move up, in their order.

    A row of which fewer than two items would stay keeps all of them. Draws from the global generator.

    Returns:
        The rows, their lengths, and the column that each item had before.
    """
    inside = real(lengths, items.shape[1])
    stays = (torch.rand(items.shape, device=items.device) >= share) & inside
    stays = torch.where(stays.sum(1, keepdim=True) >= 2, stays, inside)
    order = torch.argsort((~stays).byte(), dim=1, stable=True)
    kept = stays.sum(1)
    return items.gather(1, order).masked_fill(~real(kept, items.shape[1]), 0), kept, order


def by_length(lengths: Int[Tensor, " w"], size: int) -> list[Int[Tensor, " b"]]:
    """Return all row numbers, shortest rows first, in batches of `size`."""
    return list(torch.argsort(lengths, stable=True).split(size)) if len(lengths) else []


def real(lengths: Int[Tensor, " b"], width: int) -> Bool[Tensor, "b t"]:
    """Return which places of padded rows are filled."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]
