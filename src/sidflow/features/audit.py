"""What the embeddings look like, and how far they agree with one another and with what users did.

Two encoders agree on an item by the share of its nearest other items, by cosine, that are the same in both. The row
`cooccurrence` is of the items' users in training: items are near where the same users had them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import ItemRows
from sidflow.artifacts.item_content import ItemText
from sidflow.core.params import Params
from sidflow.core.stage import print_progress
from sidflow.features.documents import Pieces, joined_text, text_units
from sidflow.features.params import Concat, ContrastiveEncoder, Document, Encoder, PictureDescriptors, VisionEncoder
from sidflow.metrics.geometry import (
    effective_rank,
    mean_cosine,
    nearest_neighbours,
    shared_neighbours,
    singular_values,
    sparse_nearest_neighbours,
    unit_rows,
)
from sidflow.sequences.cooccurrence import Events

COOCCURRENCE = "cooccurrence"


class AuditEmbeddingsParams(Params):
    """How the embeddings are audited."""

    neighbours: int = Field(default=10, ge=1, le=100, description="nearest items whose agreement is measured")
    max_items: int = Field(
        default=10_000,
        ge=100,
        description="items among which neighbours are searched, evenly spread",
    )
    gallery: int = Field(default=4, ge=0, le=50, description="items whose neighbours the report page shows")
    gallery_neighbours: int = Field(default=5, ge=1, le=20, description="neighbours of each on the page")


class ItemInputs(NamedTuple):
    """What encoders read of each item."""

    texts: Sequence[ItemText]
    documents: Mapping[Document, Sequence[Pieces]]
    pictures: Mapping[int, bytes]


def encoder_inputs(encoder: Encoder, encoders: Mapping[str, Encoder], inputs: ItemInputs) -> list[Hashable]:
    """Return what an encoder reads of each item; items with equal inputs must have equal vectors."""
    items = range(len(inputs.texts))
    if isinstance(encoder, Concat):
        return list(zip(*(encoder_inputs(encoders[part], encoders, inputs) for part in encoder.parts), strict=True))
    if isinstance(encoder, (PictureDescriptors, VisionEncoder)):
        return [inputs.pictures.get(item) for item in items]
    if encoder.of_units:
        return [text_units(text, getattr(encoder, "units")) for text in inputs.texts]  # noqa: B009
    document = "item" if isinstance(encoder, ContrastiveEncoder) else getattr(encoder, "document", None)
    if document is not None:
        return [joined_text(text) for text in inputs.documents[document]]
    return [(joined_text(inputs.documents["item"][item]), inputs.pictures.get(item)) for item in items]


def audit_embeddings(
    embeddings: Mapping[str, ItemRows],
    inputs: Mapping[str, Sequence[Hashable]],
    events: Events,
    params: AuditEmbeddingsParams,
) -> dict[str, object]:
    """Return the audit: `encoders`, `agreement` of each pair, and the `gallery`.

    Args:
        embeddings: the rows of each encoder, [n, d], or [n, u, d] of units.
        inputs: what each encoder read of each item.
        events: of the training parts; their items are the first of the catalogue.
        params: of the audit.
    """
    figures: dict[str, dict[str, object]] = {}
    for name, rows in embeddings.items():
        figures[name] = _figures(rows, inputs[name])
        print_progress(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {_text(figures[name][key])}" for key in SHOWN))
    vectors = {name: _one_vector_an_item(rows) for name, rows in embeddings.items()}
    vectors = {name: rows for name, rows in vectors.items() if rows.present.sum() > 1}
    items = max((len(rows.present) for rows in embeddings.values()), default=0)
    vectors[COOCCURRENCE] = _users_of_items(events, items)
    agreement: dict[str, dict[str, object]] = {name: {} for name in vectors}
    for one, other in combinations(vectors, 2):
        agreement[one][other] = agreement[other][one] = _agreement(vectors[one], vectors[other], params)
    return {
        "encoders": figures,
        "agreement": agreement,
        "neighbours": params.neighbours,
        "gallery": _gallery(vectors, events.items, params),
    }


SHOWN = ("effective_rank", "mean_cosine", "duplicates")


def _text(value: object) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _figures(rows: ItemRows, inputs: Sequence[Hashable]) -> dict[str, object]:
    """Return the figures of one encoder.

    `duplicates` are items whose vector another item has, too, though their inputs differ. `norm_spread` is the standard
    deviation of the vectors' lengths over their mean. Sparse vectors have no effective rank here: they are too wide.
    """
    present = rows.present if rows.present.ndim == 1 else rows.present.any(axis=1)
    if isinstance(rows.values, csr_matrix):
        unit = unit_rows(csr_matrix(rows.values[present]))
        count, total = int(present.sum()), np.asarray(unit.sum(axis=0), dtype=np.float64)
        cosine = float((np.square(total).sum() - count) / (count * (count - 1))) if count > 1 else None
        lengths, rank = np.sqrt(np.asarray(rows.values[present].power(2).sum(axis=1)).ravel()), None
    else:
        flat = rows.values[rows.present]
        cosine = mean_cosine(flat) if len(flat) > 1 else None
        lengths = np.linalg.norm(flat.astype(np.float64), axis=1)
        rank = effective_rank(singular_values(flat)) if len(flat) else 0.0
    return {
        "items": int(present.sum()),
        "vectors": int(rows.present.sum()),
        "width": int((rows.values.shape or (0,))[-1]),
        "effective_rank": rank,
        "mean_cosine": cosine,
        "duplicates": _duplicates(rows, np.flatnonzero(present), inputs),
        "norm_spread": round(float(lengths.std() / lengths.mean()), 6) if lengths.any() else 0.0,  # float32 has no more
    }


def _duplicates(rows: ItemRows, items: np.ndarray, inputs: Sequence[Hashable]) -> int:
    """Return how many items have the vector of another one, with another input."""
    groups: dict[bytes, list[int]] = {}
    for item in items.tolist():
        groups.setdefault(_row_bytes(rows, item), []).append(item)
    return sum(len(group) for group in groups.values() if len({inputs[item] for item in group}) > 1)


def _row_bytes(rows: ItemRows, item: int) -> bytes:
    if not isinstance(rows.values, csr_matrix):
        return rows.values[item].tobytes()
    part = slice(rows.values.indptr[item], rows.values.indptr[item + 1])
    return rows.values.indices[part].tobytes() + rows.values.data[part].tobytes()


def _one_vector_an_item(rows: ItemRows) -> ItemRows:
    """Return the rows; of units the mean of each item's."""
    if rows.present.ndim == 1 or isinstance(rows.values, csr_matrix):
        return rows
    counts = rows.present.sum(axis=1)
    return ItemRows(rows.values.sum(axis=1) / np.maximum(counts, 1)[:, None], counts > 0)


def _users_of_items(events: Events, items: int) -> ItemRows:
    """Return which users had each item in training, CSR [items, users]."""
    users = csr_matrix(events.incidence().T)
    starts = np.append(users.indptr, np.full(max(items - events.items, 0), users.indptr[-1]))
    everything = csr_matrix((users.data, users.indices, starts), shape=(len(starts) - 1, int(events.user.max()) + 1))
    return ItemRows(everything, np.diff(starts) > 0)


def _agreement(one: ItemRows, other: ItemRows, params: AuditEmbeddingsParams) -> float | None:
    """Return the mean share of an item's nearest items that both have; None where too few items have both."""
    items = _evenly(np.flatnonzero(one.present & other.present), params.max_items)
    k = min(params.neighbours, len(items) - 1)
    if k < 1:
        return None
    first, second = (_neighbours(rows, items, k) for rows in (one, other))
    return shared_neighbours(first, second)


def _neighbours(rows: ItemRows, items: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest of `items` to each of them, as positions among them; -1 where nothing more is near."""
    if isinstance(rows.values, csr_matrix):
        return sparse_nearest_neighbours(csr_matrix(rows.values[items]), k)
    return nearest_neighbours(rows.values[items], k, "cosine")


def _gallery(vectors: Mapping[str, ItemRows], core: int, params: AuditEmbeddingsParams) -> list[dict[str, object]]:
    """Return some items of the core, evenly spread, with their nearest items in each encoder."""
    chosen = _evenly(np.arange(core), params.gallery) if params.gallery else np.zeros(0, dtype=int)
    nearest: dict[int, dict[str, list[int]]] = {item: {} for item in chosen.tolist()}
    for name, rows in vectors.items():
        items = np.flatnonzero(rows.present[:core])
        items = np.union1d(_evenly(items, params.max_items), np.intersect1d(items, chosen)).astype(np.int64)
        k = min(params.gallery_neighbours, len(items) - 1)
        if k < 1:
            continue
        neighbours = _neighbours(rows, items, k)
        for position in np.flatnonzero(np.isin(items, chosen)).tolist():
            near = neighbours[position]
            nearest[int(items[position])][name] = items[near[near >= 0]].tolist()
    return [{"item": item, "nearest": near} for item, near in nearest.items()]


def _evenly(values: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the values, evenly spread."""
    if len(values) <= count:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, count).round().astype(np.int64))]
