"""Kendall's tau between two spaces of the same items: how well the second keeps the first one's order of distances.

Source: MME-SID (arXiv 2509.02017): over pairs of a user's history items, ranked by their distance to the target
item, in the original and in the quantized (or fine-tuned) space: (concordant - discordant) / pairs. Ties count as
neither, so a space in which all items coincide has tau 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Integer

TRIPLES_PER_BLOCK = 2_000  # bounds the memory at 4096 dimensions


class Tau(NamedTuple):
    """Kendall's tau, and what it was measured over."""

    value: float  # NaN without pairs
    references: int  # queries, or distinct items, from which distances are measured
    pairs: int


def tau_over_histories(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    histories: list[np.ndarray],
    targets: Integer[np.ndarray, " q"],
    present: Bool[np.ndarray, " n"] | None = None,
    max_history: int = 50,
) -> Tau:
    """Return tau over pairs of history items, ordered by distance to the query's target; mean over queries.

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        histories: item ids of each query's history.
        targets: each query's item from which distances are measured.
        present: which items have vectors in both; others, and the target itself, are left out.
        max_history: only this many last items of a history count (pairs grow with the square).
    """
    usable = np.ones(len(original), dtype=bool) if present is None else present
    total, queries, pairs = 0.0, 0, 0
    for history, target in zip(histories, targets, strict=True):
        if not usable[target]:
            continue
        items = np.unique(history[-max_history:])
        items = items[usable[items] & (items != target)]
        if len(items) < 2:
            continue
        before, after = (_distance_order(space, items, target) for space in (original, changed))
        count = len(items) * (len(items) - 1)  # ordered pairs: every pair twice, in both sums
        total += float((before * after).sum()) / count
        queries += 1
        pairs += count // 2
    return Tau(total / queries if queries else float("nan"), queries, pairs)


def tau_over_triples(
    original: Float[np.ndarray, "n d"],
    changed: Float[np.ndarray, "n e"],
    generator: np.random.Generator,
    present: Bool[np.ndarray, " n"] | None = None,
    triples: int = 20_000,
) -> Tau:
    """Return tau over random triples of items (reference, a, b): is a nearer to the reference than b?

    Args:
        original: item vectors before.
        changed: item vectors after; another width is fine.
        generator: draws the triples.
        present: which items have vectors in both.
        triples: how many are drawn; those with an item twice are left out.
    """
    items = np.arange(len(original)) if present is None else np.flatnonzero(present)
    if len(items) < 3:
        return Tau(float("nan"), 0, 0)
    reference, a, b = (items[generator.integers(len(items), size=triples)] for _ in range(3))
    distinct = (reference != a) & (reference != b) & (a != b)
    reference, a, b = reference[distinct], a[distinct], b[distinct]
    if not len(reference):
        return Tau(float("nan"), 0, 0)
    agreement = 0.0
    for start in range(0, len(reference), TRIPLES_PER_BLOCK):
        block = slice(start, start + TRIPLES_PER_BLOCK)
        before, after = (
            np.sign(
                _squared_norms(space[reference[block]] - space[a[block]])
                - _squared_norms(space[reference[block]] - space[b[block]])
            )
            for space in (original, changed)
        )
        agreement += float((before * after).sum())
    return Tau(agreement / len(reference), len(np.unique(reference)), len(reference))


def _squared_norms(rows: np.ndarray) -> np.ndarray:
    return np.square(rows, dtype=np.float64).sum(axis=-1)


def _distance_order(space: np.ndarray, items: np.ndarray, target: int) -> np.ndarray:
    """Return [m, m]: 1 where the row's item is farther from `target` than the column's, -1 where it is nearer."""
    distances = _squared_norms(space[items] - space[target])
    return np.sign(distances[:, None] - distances[None, :])
