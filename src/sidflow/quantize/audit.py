"""How good semantic IDs are: use of codes, collisions, what is left of neighbourhoods and of distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.measures import neighbourhoods, tau
from sidflow.measures.exposure import gini
from sidflow.quantize.assignment import Assigned, group_rows
from sidflow.quantize.codec import Codec

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Anchors(NamedTuple):
    """Histories and targets that tau is measured over."""

    histories: list[np.ndarray]
    targets: np.ndarray


def anchors_of(histories: Histories) -> Anchors:
    """Return the validation queries as anchors: what is tested on has no say in which IDs pass the gate."""
    chosen = np.flatnonzero(histories.query_valid)
    return Anchors([histories.history(query) for query in chosen.tolist()], histories.targets[chosen])


def first_categories(items: pl.DataFrame) -> list[str]:
    """Return each item's most general category, empty where it has none, in the order of item ids."""
    return items.sort("item_id")["categories"].list.first().fill_null("").to_list()


def code_figures(codes: Int[np.ndarray, "n l"], counts: Sequence[int], name: str) -> dict[str, float]:
    """Return use, perplexity and Gini of the codes of each level, and branching of the tree of prefixes."""
    figures: dict[str, float] = {}
    parents = 1
    for level, count in enumerate(counts):
        use = np.bincount(codes[:, level], minlength=count)
        share = use[use > 0] / max(1, use.sum())
        nodes = len(group_rows(codes[:, : level + 1]).size)
        at = f"{name}_level_{level}"
        figures |= {
            f"code_usage_{at}": float((use > 0).mean()),
            f"perplexity_{at}": float(np.exp(-(share * np.log(share)).sum())),
            f"gini_{at}": gini(use.astype(np.float64)),
            f"branching_{at}": nodes / parents,
        }
        parents = nodes
    return figures


def collision_figures(codes: Int[np.ndarray, "n l"], name: str, inputs: np.ndarray | None = None) -> dict[str, float]:
    """Return how many items share their codes with another, in how many groups, and the largest group.

    With `inputs` also the rate among items with distinct inputs (one item for each different input): what the
    quantizer, rather than the catalogue, is to blame for.
    """
    end = f"_{name}" if name else ""
    figures = _collisions(codes, end)
    if inputs is not None:
        first = np.sort(np.unique(group_rows(inputs).label, return_index=True)[1])
        distinct = _collisions(codes[first], end)
        figures[f"collision_rate_distinct{end}"] = distinct[f"collision_rate{end}"]
        figures[f"items_distinct{end}"] = len(first)
    return figures


def nmi(a: np.ndarray, b: np.ndarray) -> float:
    """Return the normalised mutual information of two labellings, 0 to 1 (arithmetic mean of entropies)."""
    if not len(a):
        return float("nan")
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = _entropy(rows), _entropy(columns)
    mutual = sum(entropies) - _entropy(joint.ravel())
    return float(max(0.0, 2 * mutual / sum(entropies))) if sum(entropies) > 0 else 1.0


def modality_figures(
    name: str,
    codec: Codec,
    assigned: Assigned,
    values: Float[np.ndarray, "n d"],
    anchors: Anchors | None = None,
    categories: Sequence[str] | None = None,
    k: int = 10,
    triples: int = 20_000,
    seed: int = 0,
) -> dict[str, float]:
    """Return every figure of one modality, measured on the codes before collisions are resolved.

    Args:
        name: the modality.
        codec: its quantizer.
        assigned: its IDs.
        values: [n, d], row i = item i.
        anchors: for tau as the paper defines it; left out, there is no `tau_<name>`.
        categories: each item's first category, empty where it has none.
        k: neighbours.
        triples: random triples.
        seed: draws them.
    """
    rows, codes = values[assigned.items], assigned.nearest
    vectors = codec.vectors(codes)
    figures = code_figures(codes, [len(codebook) for codebook in codec.codebooks], name)
    figures |= collision_figures(codes, name, rows)
    figures[f"collision_rate_resolved_{name}"] = _collisions(assigned.codes, "")["collision_rate"]  # suffixes remain
    figures[f"items_{name}"] = len(rows)
    figures[f"largest_suffix_{name}"] = int(assigned.suffix.max(initial=0))
    spread = np.square(rows - rows.mean(0, dtype=np.float64)).sum()
    error = np.square(codec.decode(vectors) - rows).sum()
    figures[f"reconstruction_error_{name}"] = float(error / spread) if spread > 0 else float("nan")
    figures[f"neighbour_recall_at_{k}_{name}"] = neighbourhoods.kept(rows, vectors, k).recall
    figures |= _prefix_recall(rows, codes, name, k)
    figures[f"tau_triples_{name}"] = tau.over_triples(rows, vectors, np.random.default_rng(seed), None, triples).value
    if anchors is not None:
        quantized = np.zeros((len(values), vectors.shape[1]))
        quantized[assigned.items] = vectors
        present = np.zeros(len(values), dtype=bool)
        present[assigned.items] = True
        found = tau.over_histories(values, quantized, anchors.histories, anchors.targets, present)
        figures |= {f"tau_{name}": found.value, f"tau_anchors_{name}": found.anchors}
    if categories is not None:
        own = np.array([categories[item] for item in assigned.items], dtype=object)
        known = own != ""
        if known.any():
            label = np.unique(own[known].astype(str), return_inverse=True)[1]
            figures[f"nmi_category_{name}_level_0"] = nmi(codes[known, 0], label)
    return figures


def joint_figures(assigned: Mapping[str, Assigned], items: int) -> dict[str, float]:
    """Return collisions over the tuple of all modalities' codes, among items that have at least one."""
    parts, some = [], np.zeros(items, dtype=bool)
    for one in assigned.values():
        part = np.full((items, one.nearest.shape[1]), -1, dtype=np.int32)
        part[one.items] = one.nearest
        some[one.items] = True
        parts.append(part)
    return {**collision_figures(np.concatenate(parts, axis=1)[some], ""), "items": int(some.sum())}


def _collisions(codes: np.ndarray, end: str) -> dict[str, float]:
    size = group_rows(codes).size
    shared = size[size > 1]
    return {
        f"collision_rate{end}": float(shared.sum() / max(1, len(codes))),
        f"collision_items{end}": int(shared.sum()),
        f"collision_groups{end}": len(shared),
        f"collision_largest{end}": int(shared.max(initial=0)),
    }


def _prefix_recall(rows: np.ndarray, codes: np.ndarray, name: str, k: int) -> dict[str, float]:
    """Return the share of the true k nearest neighbours that have the same codes down to each level."""
    k = min(k, len(rows) - 1)
    if k < 1:
        return {}
    near = neighbourhoods.nearest(rows, k)
    same = np.ones(near.shape, dtype=bool)
    figures = {}
    for level in range(codes.shape[1]):
        same &= codes[near, level] == codes[:, None, level]
        figures[f"neighbours_in_prefix_{name}_level_{level}"] = float(same.mean())
    return figures


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
