"""k-means with k-means++ starts, no empty cluster, and optionally clusters of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def squared_distances(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    """Return squared distances, never below zero; in float32 or wider, under autocast too."""
    kind = torch.promote_types(torch.promote_types(x.dtype, centres.dtype), torch.float32)
    x, centres = x.to(kind), centres.to(kind)
    with full_precision(x.device):
        norms = x.square().sum(1)[:, None] + centres.square().sum(1)[None, :]
        return torch.addmm(norms, x, centres.T, alpha=-2).clamp_min_(0)


@torch.no_grad()
def nearest_codes(x: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Return the index of the nearest code vector of every row, the lowest of equally near ones."""
    return squared_distances(x, codebook).argmin(1)


@torch.no_grad()
def kmeans(
    x: Float[Tensor, "n d"], k: int, generator: torch.Generator, iterations: int = 25, balanced: bool = False
) -> Float[Tensor, "k d"]:
    """Return k centres of the rows of `x`.

    Args:
        x: the rows; at least k of them distinct, or some centres are equal.
        k: number of centres.
        generator: a CPU generator, draws the starts.
        iterations: of Lloyd's algorithm, at most.
        balanced: bound cluster sizes: from min(n / 2k, 50) to 4 times that, and at least n / k.

    Source: k-means++ starts (Arthur and Vassilvitskii 2007); bounded sizes as in LETTER (Wang et al. 2024,
    arXiv 2405.07314), by deferred acceptance instead of a flow.
    """
    centres = _kmeans_plus_plus(x, k, generator)
    labels = None
    for _ in range(iterations):
        distances = squared_distances(x, centres)
        previous = labels
        labels = assign_bounded(distances, *cluster_size_bounds(len(x), k)) if balanced else distances.argmin(1)
        if previous is not None and torch.equal(labels, previous):
            break
        centres = _cluster_means(x, labels, centres, distances)
    return centres


def _kmeans_plus_plus(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return k rows as starts: each next one is drawn by its squared distance to the nearest one so far."""
    start_rows = [int(torch.randint(len(x), (1,), generator=generator))]
    distances = (x - x[start_rows[0]]).square().sum(1)
    for _ in range(k - 1):
        weights = distances.double().cpu()
        weights[start_rows] = 0
        if weights.sum() <= 0:
            weights = torch.ones_like(weights)
        start_rows.append(int(torch.multinomial(weights, 1, generator=generator)))
        distances = torch.minimum(distances, (x - x[start_rows[-1]]).square().sum(1))
    return x[start_rows].clone()


def _cluster_means(x: Tensor, labels: Tensor, centres: Tensor, distances: Tensor) -> Tensor:
    """Return the mean of each cluster; an empty one takes the row that is farthest from its centre."""
    members = torch.nn.functional.one_hot(labels, len(centres)).to(x)
    counts = members.sum(0)
    means = members.T @ x / counts.clamp_min(1)[:, None]
    empty = torch.nonzero(counts == 0)[:, 0]
    if len(empty):
        own_distances = distances.gather(1, labels[:, None])[:, 0]
        means[empty] = x[own_distances.argsort(descending=True, stable=True)[: len(empty)]]
    return means


def cluster_size_bounds(n: int, k: int) -> tuple[int, int]:
    """Return the smallest and the largest cluster size of balanced k-means over n rows."""
    smallest = min(n // (2 * k), 50)
    return smallest, max(4 * smallest, -(-n // k))


def assign_bounded(distances: Float[Tensor, "n k"], smallest: int, largest: int) -> Int[Tensor, " n"]:
    """Return a cluster for every row: near, with at most `largest` rows, then filled up to `smallest`.

    A row is proposed to the nearest cluster that may still take it; a full cluster keeps its nearest rows and rejects
    the others. The result is stable: no row and cluster are nearer to each other than to what they have.

    Source: deferred acceptance (Gale and Shapley 1962).
    """
    table = distances.double().cpu().numpy()
    n, k = table.shape
    labels, radius = np.full(n, -1), np.full(k, np.inf)  # radius: a full cluster takes only rows nearer than this
    unassigned = np.arange(n)
    while len(unassigned):
        part = table[unassigned]
        labels[unassigned] = np.where(part < radius, part, np.inf).argmin(1)
        own_distances = table[np.arange(n), labels]
        order = np.lexsort((own_distances, labels))
        begin = np.searchsorted(labels[order], np.arange(k))
        rank = np.arange(n) - begin[labels[order]]  # of each row in its cluster, nearest first
        unassigned = np.sort(order[rank >= largest])
        last = order[rank == largest - 1]
        radius[labels[last]] = own_distances[last]
    counts = np.bincount(labels, minlength=k)
    for code in np.flatnonzero(counts < smallest):
        for row in table[:, code].argsort(kind="stable"):
            if counts[code] >= smallest:
                break
            if counts[labels[row]] > smallest:
                counts[labels[row]] -= 1
                labels[row] = code
                counts[code] += 1
    return torch.from_numpy(labels).to(distances.device)
