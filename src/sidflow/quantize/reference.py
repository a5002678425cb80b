"""What the IDs are held against in every run: residual k-means on the rows themselves, under the same audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import faiss
import numpy as np

from sidflow.contracts.artifacts.quantizer import MODALITIES
from sidflow.contracts.tensors import Tensors
from sidflow.quantize.assignment import assign
from sidflow.quantize.audit import Anchors, modality_figures
from sidflow.quantize.codec import Codec

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

ROUNDS = 25  # of k-means
COMPARED = ("collision_rate_distinct", "tau", "tau_triples", "reconstruction_error")  # and neighbour recall
PREFIX = "reference_"


def residual_kmeans(
    values: Float[np.ndarray, "n d"], present: Bool[np.ndarray, " n"], counts: list[int], seed: int
) -> Codec:
    """Return codebooks of `counts[l]` centres (at most one a row), each of what the levels before leave (faiss)."""
    rows = np.ascontiguousarray(values[present], dtype=np.float32)
    counts = [min(count, len(rows)) for count in counts]
    mean = rows.mean(axis=0)
    residual, books = rows - mean, []
    for count in counts:
        found = faiss.Kmeans(rows.shape[1], count, niter=ROUNDS, seed=seed, min_points_per_centroid=1)
        found.train(residual)
        centres = np.asarray(found.centroids, dtype=np.float32).reshape(count, -1)
        nearest = found.index.search(residual, 1)[1][:, 0]  # type: ignore[union-attr]
        residual = residual - centres[nearest]
        books.append(np.pad(centres, ((0, max(counts) - count), (0, 0))))
    arrays = {"codebooks.rows": np.stack(books), "mean.rows": mean, "scale.rows": np.ones(1, dtype=np.float32)}
    return Codec(Tensors(arrays, {MODALITIES: {"rows": {"codes": counts}}}), "rows")


def reference_figures(
    name: str,
    counts: list[int],
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    anchors: Anchors | None,
    k: int,
    triples: int,
    seed: int,
) -> dict[str, float]:
    """Return the figures that tell methods apart, under the names of the audit with `reference_` before them.

    Args:
        name: the modality.
        counts: codes per level, as the IDs under audit have.
        values: [n, d], row i = item i.
        present: which rows count.
        anchors: for tau as the paper defines it.
        k: neighbours.
        triples: random triples.
        seed: draws the centres and the triples.
    """
    codec = residual_kmeans(values, present, counts, seed)
    found = modality_figures(name, codec, assign(codec, values, present), values, anchors, None, k, triples, seed)
    return {PREFIX + key: value for key, value in found.items() if _compared(key, name)}


def recall_ratios(figures: Mapping[str, float]) -> dict[str, float]:
    """Return, by the name of each reference's neighbour recall, ours divided by it; equal where both are zero."""
    start = f"{PREFIX}neighbour_recall_at_"
    pairs = {key: (figures[key.removeprefix(PREFIX)], value) for key, value in figures.items() if key.startswith(start)}
    return {key: ours / theirs if theirs > 0 else 1.0 for key, (ours, theirs) in pairs.items()}


def _compared(key: str, name: str) -> bool:
    stem = key.removesuffix(f"_{name}")
    return stem in COMPARED or stem.startswith("neighbour_recall_at_")
