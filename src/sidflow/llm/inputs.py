"""What MME-SID takes of every item: modality rows, codes and codebooks, and how often it occurs in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.quantizer import QUANTIZER, modality_codebooks
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.contracts.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class ModalityInputs(NamedTuple):
    """One modality of all items."""

    raw: Float[np.ndarray, "n d"]
    present: Bool[np.ndarray, " n"]
    codes: Int[np.ndarray, "n l"]  # -1 in the rows of items without a semantic ID
    codebooks: Float[np.ndarray, "l k c"]


class ItemInputs(NamedTuple):
    """All modalities of all items, and the core items' frequencies."""

    modalities: dict[str, ModalityInputs]
    counts: Int[np.ndarray, " core"]  # occurrences in training parts, of the core items

    @property
    def items(self) -> int:
        """Number of catalogue items."""
        return len(next(iter(self.modalities.values())).present)


def load_item_inputs(names: Sequence[str], without: Sequence[str], counts: np.ndarray) -> ItemInputs:
    """Read the modalities `names` except those in `without`; one that no item has is left out.

    Raises:
        InputError: `without` names an unknown modality, no modality is left, or artifacts disagree.
    """
    unknown = sorted(set(without) - set(names))
    if unknown:
        raise InputError(
            "params.yaml:finetune.*.without",
            expected=f"names out of {list(names)}",
            found=f"{unknown}",
            remedy="correct the name, or add the modality to params.yaml:modality",
        )
    semantic_ids = SEMANTIC_IDS.read()
    quantizer = QUANTIZER.read()
    modalities = {}
    for name in (name for name in names if name not in without):
        raw = MODALITY.read(name=name).arrays
        if raw["present"].any():
            rows = semantic_ids.filter(pl.col("modality") == name)
            codebooks = modality_codebooks(quantizer, name)
            codes = _code_matrix(rows, len(raw["present"]), codebooks)
            modalities[name] = ModalityInputs(raw["values"], raw["present"], codes, codebooks)
    if not modalities:
        raise InputError(
            "artifacts/modalities",
            expected="at least one modality that some item has",
            found=f"none out of {list(names)} without {list(without)}",
            remedy="name another source in params.yaml:modality, or shorten finetune.*.without",
        )
    return ItemInputs(modalities, counts)


def _code_matrix(rows: pl.DataFrame, items: int, codebooks: np.ndarray) -> Int[np.ndarray, "n l"]:
    """Return the codes of one modality's `rows` by item id, -1 where an item has no row."""
    levels, size = codebooks.shape[:2]
    matrix = np.full((items, levels), -1, dtype=np.int64)
    codes = rows["codes"].to_numpy().reshape(rows.height, -1) if rows.height else matrix[:0]
    if codes.shape[1] != levels or (codes.size and codes.max() >= size):
        raise InputError(
            str(SEMANTIC_IDS.at()),
            expected=f"{levels} codes below {size} an item, as in the quantizer",
            found=f"{codes.shape[1]} codes up to {codes.max(initial=0)}",
            remedy="rerun `dvc repro assign`",
        )
    matrix[rows["item_id"].to_numpy()] = codes
    return matrix
