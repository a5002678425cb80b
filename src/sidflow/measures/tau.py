"""Kendall's tau between two geometries of the same items: is the order of distances kept?

Source: MME-SID (arXiv 2509.02017): over pairs of a user's history items, ranked by their distance to the target
item, in the original and in the quantized (or fine-tuned) space: (concordant - discordant) / pairs. Ties count as
neither, so that a space in which everything coincides has tau 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer


class Tau(NamedTuple):
    """Kendall's tau and what it rests on."""

    value: float  # mean over anchors (queries, or items of the triples); NaN where there was no pair
    anchors: int
    pairs: int


def over_histories(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    histories: list[np.ndarray],
    targets: Integer[np.ndarray, " q"],
    present: Bool[np.ndarray, " n"] | None = None,
    longest: int = 50,
) -> Tau:
    """Return tau over pairs of history items, ordered by distance to each query's target; mean over queries.

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        histories: item ids of each query's history.
        targets: the item whose distances are compared.
        present: which items have vectors in both; others, and the target itself, are left out.
        longest: only this many last items of a history count (pairs grow with the square).
    """
    usable = np.ones(len(original), dtype=bool) if present is None else present
    total, anchors, pairs = 0.0, 0, 0
    for history, target in zip(histories, targets, strict=True):
        if not usable[target]:
            continue
        items = np.unique(history[-longest:])
        items = items[usable[items] & (items != target)]
        if len(items) < 2:
            continue
        before = np.sign(_differences(_distances(original, items, target)))
        after = np.sign(_differences(_distances(changed, items, target)))
        count = len(items) * (len(items) - 1)  # ordered pairs: every pair twice, in both sums
        total += float((before * after).sum()) / count
        anchors += 1
        pairs += count // 2
    return Tau(total / anchors if anchors else float("nan"), anchors, pairs)


def over_triples(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    generator: np.random.Generator,
    present: Bool[np.ndarray, " n"] | None = None,
    triples: int = 20_000,
) -> Tau:
    """Return tau over random triples (anchor, a, b): is a nearer to the anchor than b, before and after?"""
    items = np.arange(len(original)) if present is None else np.flatnonzero(present)
    if len(items) < 3:
        return Tau(float("nan"), 0, 0)
    anchor, a, b = (items[generator.integers(len(items), size=triples)] for _ in range(3))
    distinct = (anchor != a) & (anchor != b) & (a != b)
    anchor, a, b = anchor[distinct], a[distinct], b[distinct]
    if not len(anchor):
        return Tau(float("nan"), 0, 0)
    agreement = 0.0
    for start in range(0, len(anchor), 2_000):  # bounded memory at 4096 dimensions
        part = slice(start, start + 2_000)
        before, after = (
            np.sign(_squared(space[anchor[part]] - space[a[part]]) - _squared(space[anchor[part]] - space[b[part]]))
            for space in (original, changed)
        )
        agreement += float((before * after).sum())
    return Tau(agreement / len(anchor), len(np.unique(anchor)), len(anchor))


def _squared(difference: np.ndarray) -> np.ndarray:
    return np.square(difference, dtype=np.float64).sum(axis=-1)


def _distances(space: np.ndarray, items: np.ndarray, target: int) -> np.ndarray:
    return _squared(space[items] - space[target])


def _differences(distances: np.ndarray) -> np.ndarray:
    return distances[:, None] - distances[None, :]
