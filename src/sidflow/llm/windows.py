"""Training histories cut into windows, and batches of windows of like length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidflow.contracts.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Int

BUCKET = 50  # batches that are shuffled together before they are sorted by length


class Windows(NamedTuple):
    """Pieces of training parts: piece w reads `items[start[w]:start[w] + length[w]]` and foretells each one's next."""

    items: Int[np.ndarray, " events"]
    start: Int[np.ndarray, " w"]
    length: Int[np.ndarray, " w"]


class Drawn(NamedTuple):
    """A batch of a sampled loss."""

    rows: Int[Tensor, " b"]  # of pieces
    seed: int  # of its negatives: the same ones in every process, and after a resume


def cut(histories: Histories, longest: int) -> Windows:
    """Cut every training part from its end into windows of at most `longest` inputs, so that each target is in one."""
    starts: list[int] = []
    lengths: list[int] = []
    for offset, end in zip(histories.offsets[:-1].tolist(), histories.train_end.tolist(), strict=True):
        inputs = end - 1
        while inputs > 0:
            length = min(longest, inputs)
            starts.append(offset + inputs - length)
            lengths.append(length)
            inputs -= length
    return Windows(histories.items, np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64))


def batches(lengths: Int[np.ndarray, " w"], size: int, generator: torch.Generator) -> list[Tensor]:
    """Return rows in batches of `size`, shuffled, of like length within a batch, so that little is padding."""
    order = torch.randperm(len(lengths), generator=generator)
    long = torch.from_numpy(lengths)
    found: list[Tensor] = []
    for part in order.split(size * BUCKET):
        found += part[torch.argsort(long[part], stable=True)].split(size)
    return [found[index] for index in torch.randperm(len(found), generator=generator).tolist()]


def with_seeds(batches: list[Tensor], generator: torch.Generator) -> list[Drawn]:
    """Return the batches, each with a seed of its own."""
    seeds = torch.randint(2**62, (len(batches),), generator=generator)
    return [Drawn(rows, seed) for rows, seed in zip(batches, seeds.tolist(), strict=True)]


def places(start: np.ndarray, length: np.ndarray, skip_share: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return where in `items` each piece's inputs and its last target stand, in order, and which of them are real.

    Args:
        start: of each piece.
        length: of its inputs, at least 1; the target of the last one comes after them.
        skip_share: probability of an item to be left out; the others move up. A piece of which fewer than two would
            stay keeps all. Drawn from torch's global generator.

    Returns:
        int64 and bool [b, t + 1], filled up on the right with place 0.
    """
    steps = np.arange(int(length.max(initial=1)) + 1)
    real = steps <= length[:, None]
    found = np.where(real, start[:, None] + steps, 0)
    if not skip_share:
        return found, real
    stays = (torch.rand(real.shape).numpy() >= skip_share) & real
    stays = np.where(stays.sum(1, keepdims=True) >= 2, stays, real)
    order = np.argsort(~stays, axis=1, kind="stable")
    width = int(stays.sum(1).max())
    real = np.take_along_axis(stays, order, axis=1)[:, :width]
    return np.where(real, np.take_along_axis(found, order, axis=1)[:, :width], 0), real


def padded(items: np.ndarray, start: np.ndarray, length: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the pieces as int64 [b, t] padded on the right with item 0, and which places are real, bool [b, t]."""
    place = np.arange(int(length.max(initial=1)))
    real = place < length[:, None]
    rows = items[np.where(real, start[:, None] + place, 0)]
    return torch.from_numpy(np.where(real, rows, 0).astype(np.int64)), torch.from_numpy(real)
