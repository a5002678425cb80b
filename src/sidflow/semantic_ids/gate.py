"""All modalities' semantic IDs, their quality, and the thresholds that end a run.

IDs that miss a threshold end the run before anything is trained on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from sidflow.artifacts.semantic_ids import quantized_modalities
from sidflow.core.errors import InputError, InvalidValue
from sidflow.core.params import Params
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.assign import KeyedVectors, assign_ids, keep_frozen_ids, semantic_id_table
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.quality import TauQueries, joint_metrics, modality_metrics, recall_ratios, reference_metrics


class GateParams(Params):
    """Thresholds over all modalities and levels; null = not checked."""

    least_code_usage: float | None = Field(
        default=0.99, ge=0, le=1, description="share of a level's codes that some item has"
    )
    most_collision_rate_distinct: float | None = Field(
        default=0.01, ge=0, le=1, description="share of items with distinct inputs that share their codes, as written"
    )
    least_neighbour_recall: float | None = Field(
        default=None, ge=0, le=1, description="share of an item's nearest neighbours that stay so after quantizing"
    )
    least_recall_ratio: float | None = Field(
        default=None, ge=0, description="the same share, divided by that of the reference"
    )
    least_tau_triples: float | None = Field(
        default=0.0, ge=-1, le=1, description="rank agreement of distances before and after, -1 to 1"
    )


class AssignParams(Params):
    """How collisions are resolved, and what the audit measures and demands."""

    frozen_ids_from: str | None = Field(
        default=None, description="artifacts folder of an earlier run whose IDs stay; needs quantize.frozen_from"
    )
    resolution: Literal["suffix", "sinkhorn_reassign"] = Field(
        default="suffix", description="of collisions: suffix | sinkhorn_reassign (other last codes first, then suffix)"
    )
    sinkhorn_epsilon: float = Field(default=0.05, gt=0, description="of distances scaled to [-1, 1]")
    sinkhorn_iterations: int = Field(default=50, ge=1, description="scalings of rows and columns")
    neighbours: int = Field(default=10, ge=1, description="neighbours per item in the audit")
    triples: int = Field(default=20_000, ge=1, description="triples sampled for the audit's rank agreement")
    reference: Literal["rq-kmeans", "none"] = Field(
        default="rq-kmeans", description="audited beside the IDs: rq-kmeans (residual k-means on the rows) | none"
    )
    seed: int = Field(default=0, description="of the triples and the reference's centres")
    gate: GateParams = Field(
        default=GateParams(), description="thresholds over all modalities and levels that end a run; null = not checked"
    )

    @model_validator(mode="after")
    def _ratio_has_a_reference(self) -> AssignParams:
        if self.reference == "none" and self.gate.least_recall_ratio is not None:
            raise InvalidValue(
                "`gate.least_recall_ratio: null` with `reference: none`, which has nothing to compare with",
                f"{self.gate.least_recall_ratio:g}",
            )
        return self


class FrozenIds(NamedTuple):
    """IDs of an earlier run, and the keys of the current items to join them by."""

    item_keys: list[str]  # of all items, in the order of item ids
    table: pl.DataFrame  # item_key, modality, codes, suffix


class AuditedIds(NamedTuple):
    """What the stage writes."""

    table: pl.DataFrame  # item_id, modality, codes, suffix
    audit: dict[str, float]


def assign_and_audit(
    quantizer: Tensors,
    modalities: Mapping[str, Mapping[str, np.ndarray]],
    params: AssignParams,
    tau_queries: TauQueries | None,
    categories: Sequence[str] | None,
    frozen: FrozenIds | None = None,
) -> AuditedIds:
    """Return the IDs of all items in all quantized modalities, and their audit.

    Args:
        quantizer: the artifact.
        modalities: by name `values` [n, d] and `present` [n], all of them quantized; row i = item i.
        params: section `assign`.
        tau_queries: histories and targets that tau is measured over.
        categories: each item's first category.
        frozen: IDs of an earlier run, which stay; new items get the nearest codes.

    Raises:
        InputError: vectors have another width than the quantizer was trained on, or frozen IDs do not fit it.
    """
    ids, audit = {}, {}
    items = 0
    for name, modality in modalities.items():
        codec, present = Codec(quantizer, name), modality["present"]
        values = codec.quantized_part(modality["values"])
        items = len(values)
        if frozen:
            ids[name] = keep_frozen_ids(codec, KeyedVectors(frozen.item_keys, values, present), frozen.table)
        else:
            ids[name] = assign_ids(
                codec,
                values,
                present,
                reassign=params.resolution == "sinkhorn_reassign",
                epsilon=params.sinkhorn_epsilon,
                iterations=params.sinkhorn_iterations,
            )
        k, triples, seed = params.neighbours, params.triples, params.seed
        audit |= modality_metrics(name, codec, ids[name], values, tau_queries, categories, k, triples, seed)
        if params.reference == "rq-kmeans":
            audit |= reference_metrics(name, codec.counts, values, present, tau_queries, k, triples, seed)
    audit |= joint_metrics(ids, items)
    levels = Codec(quantizer, quantized_modalities(quantizer)[0]).levels
    return AuditedIds(semantic_id_table(ids, levels), audit)


def check_gate(audit: Mapping[str, float], gate: GateParams) -> None:
    """Check the audit against the thresholds.

    Raises:
        InputError: a metric misses its threshold, or is not a number; the one that misses by most is named, then up to
            five.
    """
    thresholds = (
        ("code_usage_", gate.least_code_usage, 1),
        ("collision_rate_resolved_distinct_", gate.most_collision_rate_distinct, -1),
        ("neighbour_recall_at_", gate.least_neighbour_recall, 1),
        ("ratio_to_", gate.least_recall_ratio, 1),
        ("tau_triples_", gate.least_tau_triples, 1),
    )
    ratios = {f"ratio_to_{name}": ratio for name, ratio in recall_ratios(audit).items()}
    missed = [
        (-math.inf if math.isnan(value) else margin, name, value, bound, "at least" if sign > 0 else "at most")
        for prefix, bound, sign in thresholds
        if bound is not None
        for name, value in {**audit, **ratios}.items()
        if name.startswith(prefix) and not (margin := sign * (value - bound)) >= 0
    ]
    if missed:
        _, name, value, bound, direction = min(missed)
        raise InputError(
            "semantic IDs",
            expected=f"{name} {direction} {bound:g}",
            found=f"{value:.4g}",
            count=len(missed),
            example=", ".join(f"{metric} = {measured:.4g}" for _, metric, measured, *_ in sorted(missed)[:5]),
            remedy="change `quantize` (fewer codes, other epochs, refit: all), or the threshold in `assign.gate`",
        )
