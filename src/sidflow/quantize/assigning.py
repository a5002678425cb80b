"""All modalities' IDs and their audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.quantizer import modalities
from sidflow.contracts.tensors import Tensors
from sidflow.quantize.assignment import assign, table
from sidflow.quantize.audit import Anchors, joint_figures, modality_figures
from sidflow.quantize.codec import Codec
from sidflow.quantize.gate import AssignParams
from sidflow.quantize.known import keep
from sidflow.quantize.reference import reference_figures


class Known(NamedTuple):
    """IDs of an earlier run, and the catalogue's keys to join them by."""

    item_keys: list[str]  # of all items, in the order of item ids
    ids: pl.DataFrame  # item_key, modality, codes, suffix


class Result(NamedTuple):
    """What the stage writes."""

    table: pl.DataFrame
    figures: dict[str, float]


def assign_all(
    quantizer: Tensors,
    contents: Mapping[str, Mapping[str, np.ndarray]],
    params: AssignParams,
    anchors: Anchors | None,
    categories: Sequence[str] | None,
    known: Known | None = None,
) -> Result:
    """Return the IDs of all items in all quantized modalities, with their audit.

    Args:
        quantizer: the artifact.
        contents: `values` and `present` of the modalities, all of them quantized; row i = item i.
        params: how collisions are resolved, what the audit looks at.
        anchors: histories and targets for tau.
        categories: each item's first category.
        known: IDs given earlier, which stay; new items get the nearest codes.
    """
    assigned, figures = {}, {}
    items = 0
    for name, content in contents.items():
        codec, values, present = Codec(quantizer, name), content["values"], content["present"]
        items = len(values)
        if known:
            one = keep(codec, values, present, known.item_keys, known.ids)
        else:
            one = assign(
                codec,
                values,
                present,
                reassign=params.resolution == "sinkhorn_reassign",
                epsilon=params.sinkhorn_epsilon,
                iterations=params.sinkhorn_iterations,
            )
        figures |= modality_figures(
            name, codec, one, values, anchors, categories, params.neighbours, params.triples, params.seed
        )
        if params.reference == "rq-kmeans":
            counts = [len(codebook) for codebook in codec.codebooks]
            figures |= reference_figures(
                name, counts, values, present, anchors, params.neighbours, params.triples, params.seed
            )
        assigned[name] = one
    figures |= joint_figures(assigned, items)
    return Result(table(assigned, Codec(quantizer, modalities(quantizer)[0]).levels), figures)
