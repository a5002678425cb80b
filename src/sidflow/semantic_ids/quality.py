"""How good semantic IDs are, against residual k-means on the same vectors.

`modality_metrics` measures one modality's IDs. `reference_metrics` measures residual k-means on the same vectors in the
same way, as a reference that every run reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.semantic_ids import MODALITIES_KEY
from sidflow.core.faiss import import_faiss
from sidflow.core.tensors import Tensors
from sidflow.metrics.geometry import nearest_neighbours, neighbour_recall, tau_over_histories, tau_over_triples
from sidflow.metrics.ranking import gini
from sidflow.semantic_ids.assign import ModalityIds, assign_ids
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.equal_rows import group_rows
from sidflow.semantic_ids.residual_pass import residual_levels
from sidflow.sequences.histories import Histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


REFERENCE_ITERATIONS = 25  # of each level's k-means
REFERENCE_METRICS = ("collision_rate_distinct", "tau", "tau_triples", "reconstruction_error")  # and neighbour recall
REFERENCE_PREFIX = "reference_"


class TauQueries(NamedTuple):
    """Histories and targets that tau is measured over."""

    histories: list[np.ndarray]
    targets: np.ndarray


def validation_tau_queries(histories: Histories) -> TauQueries:
    """Return the validation queries; test queries must not decide which IDs pass the gate."""
    queries = np.flatnonzero(histories.query_valid)
    return TauQueries([histories.history(query) for query in queries.tolist()], histories.targets[queries])


def first_categories(items: pl.DataFrame) -> list[str]:
    """Return each item's most general category, empty where it has none, in the order of item ids."""
    return items.sort("item_id")["categories"].list.first().fill_null("").to_list()


def code_metrics(codes: Int[np.ndarray, "n l"], counts: Sequence[int], name: str) -> dict[str, float]:
    """Return the use, perplexity and Gini coefficient of each level's codes, and the branching of the prefix tree.

    Args:
        codes: the codes.
        counts: codes that each level has.
        name: the modality, part of the metrics' names.
    """
    metrics: dict[str, float] = {}
    parents = 1
    for level, count in enumerate(counts):
        use = np.bincount(codes[:, level], minlength=count)
        nodes = len(group_rows(codes[:, : level + 1]).size)
        name_suffix = f"{name}_level_{level}"
        metrics |= {
            f"code_usage_{name_suffix}": float((use > 0).mean()),
            f"perplexity_{name_suffix}": float(np.exp(_entropy(use / max(1, use.sum())))),
            f"gini_{name_suffix}": gini(use.astype(np.float64)),
            f"branching_{name_suffix}": nodes / parents,
        }
        parents = nodes
    return metrics


def collision_metrics(codes: Int[np.ndarray, "n l"], name: str, inputs: np.ndarray | None = None) -> dict[str, float]:
    """Return how many items share their codes with another, in how many groups, and the largest group.

    Args:
        codes: the codes.
        name: the modality, part of the metrics' names; empty for the tuple of all modalities.
        inputs: [n, d], the items' vectors; with them also the collision rate of one item for each different input,
            which leaves out collisions that no quantizer can avoid.
    """
    name_suffix = f"_{name}" if name else ""
    metrics = _collisions(codes, name_suffix)
    if inputs is not None:
        first = np.sort(group_rows(inputs).first)
        distinct = _collisions(codes[first], name_suffix)
        metrics[f"collision_rate_distinct{name_suffix}"] = distinct[f"collision_rate{name_suffix}"]
        metrics[f"items_distinct{name_suffix}"] = len(first)
    return metrics


def normalised_mutual_information(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    """Return the normalised mutual information of two labellings, 0 to 1 (arithmetic mean of entropies)."""
    if not len(a):
        return float("nan")
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = _entropy(rows), _entropy(columns)
    mutual = sum(entropies) - _entropy(joint.ravel())
    return float(max(0.0, 2 * mutual / sum(entropies))) if sum(entropies) > 0 else 1.0


def modality_metrics(
    name: str,
    codec: Codec,
    ids: ModalityIds,
    values: Float[np.ndarray, "n d"],
    tau_queries: TauQueries | None = None,
    categories: Sequence[str] | None = None,
    k: int = 10,
    triples: int = 20_000,
    seed: int = 0,
) -> dict[str, float]:
    """Return every metric of one modality, of the codes before collision resolution but for those named `resolved`.

    Args:
        name: the modality.
        codec: its quantizer.
        ids: its IDs.
        values: row i = item i.
        tau_queries: for tau as the paper defines it; without them there is no `tau_<name>`.
        categories: each item's first category, empty where it has none.
        k: neighbours.
        triples: random triples for `tau_triples_<name>`.
        seed: draws the triples.
    """
    rows, codes = values[ids.items], ids.nearest
    vectors = codec.dequantize(codes)
    metrics = code_metrics(codes, codec.counts, name)
    metrics |= collision_metrics(codes, name, rows)
    resolved = collision_metrics(ids.codes, "", rows)  # suffixes remain
    metrics[f"collision_rate_resolved_{name}"] = resolved["collision_rate"]
    metrics[f"collision_rate_resolved_distinct_{name}"] = resolved["collision_rate_distinct"]
    metrics[f"items_{name}"] = len(rows)
    metrics[f"largest_suffix_{name}"] = int(ids.suffix.max(initial=0))
    spread = np.square(rows - rows.mean(0, dtype=np.float64)).sum()
    error = np.square(codec.decode(vectors) - rows).sum()
    metrics[f"reconstruction_error_{name}"] = float(error / spread) if spread > 0 else float("nan")
    metrics[f"neighbour_recall_at_{k}_{name}"] = neighbour_recall(rows, vectors, k)
    metrics |= _neighbours_in_prefix(rows, codes, name, k)
    metrics[f"tau_triples_{name}"] = tau_over_triples(rows, vectors, np.random.default_rng(seed), None, triples).value
    if tau_queries is not None:
        quantized = np.zeros((len(values), vectors.shape[1]))
        quantized[ids.items] = vectors
        present = np.zeros(len(values), dtype=bool)
        present[ids.items] = True
        tau = tau_over_histories(values, quantized, tau_queries.histories, tau_queries.targets, present)
        metrics |= {f"tau_{name}": tau.value, f"tau_anchors_{name}": tau.references}
    if categories is not None:
        item_categories = np.array([categories[item] for item in ids.items], dtype=object)
        has_category = item_categories != ""
        if has_category.any():
            label = np.unique(item_categories[has_category].astype(str), return_inverse=True)[1]
            information = normalised_mutual_information(codes[has_category, 0], label)
            metrics[f"nmi_category_{name}_level_0"] = information
    return metrics


def joint_metrics(ids: Mapping[str, ModalityIds], items: int) -> dict[str, float]:
    """Return collisions of the tuple of all modalities' codes, over items that have at least one modality.

    Args:
        ids: by modality.
        items: number of all items.
    """
    parts, has_modality = [], np.zeros(items, dtype=bool)
    for modality_ids in ids.values():
        part = np.full((items, modality_ids.nearest.shape[1]), -1, dtype=np.int32)
        part[modality_ids.items] = modality_ids.nearest
        has_modality[modality_ids.items] = True
        parts.append(part)
    codes = np.concatenate(parts, axis=1)[has_modality]
    return {**collision_metrics(codes, ""), "items": int(has_modality.sum())}


def fit_reference_codec(
    values: Float[np.ndarray, "n d"], present: Bool[np.ndarray, " n"], counts: list[int], seed: int
) -> Codec:
    """Return the codec of residual k-means (faiss) on the vectors themselves; its modality is called `rows`.

    Args:
        values: the items' vectors.
        present: rows that have the modality.
        counts: codes of each level; at most one a row is fitted.
        seed: draws the starts of k-means.
    """
    rows = np.ascontiguousarray(values[present], dtype=np.float32)
    counts = [min(count, len(rows)) for count in counts]
    mean = rows.mean(axis=0)
    padded = np.zeros((len(counts), max(counts), rows.shape[1]), dtype=np.float32)
    codebooks = [codebook[:count] for codebook, count in zip(padded, counts, strict=True)]

    def fitted_codes(level: int, residual: np.ndarray) -> np.ndarray:
        count = counts[level]
        kmeans = import_faiss().Kmeans(
            rows.shape[1], count, niter=REFERENCE_ITERATIONS, seed=seed, min_points_per_centroid=1
        )
        kmeans.train(residual)
        codebooks[level][:] = np.asarray(kmeans.centroids, dtype=np.float32).reshape(count, -1)
        return kmeans.index.search(residual, 1)[1][:, 0]

    for _ in residual_levels(rows - mean, codebooks, fitted_codes):
        pass
    arrays = {"codebooks.rows": padded, "mean.rows": mean, "scale.rows": np.ones(1, dtype=np.float32)}
    return Codec(Tensors(arrays, {MODALITIES_KEY: {"rows": {"codes": counts}}}), "rows")


def reference_metrics(
    name: str,
    counts: list[int],
    values: Float[np.ndarray, "n d"],
    present: Bool[np.ndarray, " n"],
    tau_queries: TauQueries | None,
    k: int,
    triples: int,
    seed: int,
) -> dict[str, float]:
    """Return the metrics of the reference that compare methods, named `reference_` and the audit's name.

    Args:
        name: the modality.
        counts: codes per level of the IDs that are audited.
        values: row i = item i.
        present: items that have the modality.
        tau_queries: for tau as the paper defines it.
        k: neighbours.
        triples: random triples.
        seed: draws the starts of k-means and the triples.
    """
    codec = fit_reference_codec(values, present, counts, seed)
    ids = assign_ids(codec, values, present)
    metrics = modality_metrics(name, codec, ids, values, tau_queries, None, k, triples, seed)
    return {REFERENCE_PREFIX + key: value for key, value in metrics.items() if _compares_methods(key, name)}


def recall_ratios(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return neighbour recall divided by the reference's, by the name of the latter; 1 where the latter is zero."""
    prefix = f"{REFERENCE_PREFIX}neighbour_recall_at_"
    references = {key: value for key, value in metrics.items() if key.startswith(prefix)}
    return {
        key: metrics[key.removeprefix(REFERENCE_PREFIX)] / reference if reference > 0 else 1.0
        for key, reference in references.items()
    }


def _collisions(codes: np.ndarray, name_suffix: str) -> dict[str, float]:
    size = group_rows(codes).size
    shared = size[size > 1]
    return {
        f"collision_rate{name_suffix}": float(shared.sum() / max(1, len(codes))),
        f"collision_items{name_suffix}": int(shared.sum()),
        f"collision_groups{name_suffix}": len(shared),
        f"collision_largest{name_suffix}": int(shared.max(initial=0)),
    }


def _neighbours_in_prefix(rows: np.ndarray, codes: np.ndarray, name: str, k: int) -> dict[str, float]:
    """Return the share of the true k nearest neighbours that have the same codes down to each level."""
    k = min(k, len(rows) - 1)
    if k < 1:
        return {}
    neighbours = nearest_neighbours(rows, k)
    same = np.ones(neighbours.shape, dtype=bool)
    metrics = {}
    for level in range(codes.shape[1]):
        same &= codes[neighbours, level] == codes[:, None, level]
        metrics[f"neighbours_in_prefix_{name}_level_{level}"] = float(same.mean())
    return metrics


def _compares_methods(key: str, name: str) -> bool:
    stem = key.removesuffix(f"_{name}")
    return stem in REFERENCE_METRICS or stem.startswith("neighbour_recall_at_")


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
