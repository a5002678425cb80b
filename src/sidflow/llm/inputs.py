"""What MME-SID knows of every item before it is trained: modality rows, codes, codebooks, how often it was bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.quantizer import QUANTIZER, codebooks_of
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.contracts.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Modality(NamedTuple):
    """One modality of all items."""

    raw: Float[np.ndarray, "n d"]
    present: Bool[np.ndarray, " n"]
    codes: Int[np.ndarray, "n l"]  # -1 in the rows of items without a semantic ID
    codebooks: Float[np.ndarray, "l k c"]


class ItemInputs(NamedTuple):
    """All items."""

    modalities: dict[str, Modality]
    counts: Int[np.ndarray, " core"]  # in training parts, of the core items

    @property
    def items(self) -> int:
        """Number of catalogue items."""
        return len(next(iter(self.modalities.values())).present)


def load(names: Sequence[str], without: Sequence[str], counts: np.ndarray) -> ItemInputs:
    """Read the modalities `names` but those in `without`; one that no item has drops out.

    Raises:
        InputError: a name in `without` is unknown, nothing is left, or artifacts disagree.
    """
    unknown = sorted(set(without) - set(names))
    if unknown:
        raise InputError(
            "params.yaml:finetune.*.without",
            expected=f"names out of {list(names)}",
            found=f"{unknown}",
            remedy="correct the name, or add the modality to params.yaml:modality",
        )
    table = SEMANTIC_IDS.read()
    quantizer = QUANTIZER.read()
    modalities = {}
    for name in (name for name in names if name not in without):
        raw = MODALITY.read(name=name).arrays
        if raw["present"].any():
            own = table.filter(pl.col("modality") == name)
            books = codebooks_of(quantizer, name)
            modalities[name] = Modality(raw["values"], raw["present"], _codes(own, len(raw["present"]), books), books)
    if not modalities:
        raise InputError(
            "artifacts/modalities",
            expected="at least one modality that some item has",
            found=f"none out of {list(names)} without {list(without)}",
            remedy="name another source in params.yaml:modality, or shorten finetune.*.without",
        )
    return ItemInputs(modalities, counts)


def _codes(table: pl.DataFrame, items: int, books: np.ndarray) -> np.ndarray:
    codes = np.full((items, books.shape[0]), -1, dtype=np.int64)
    found = table["codes"].to_numpy().reshape(table.height, -1) if table.height else codes[:0]
    if found.shape[1] != books.shape[0] or (found.size and found.max() >= books.shape[1]):
        raise InputError(
            str(SEMANTIC_IDS.at()),
            expected=f"{books.shape[0]} codes below {books.shape[1]} an item, as in the quantizer",
            found=f"{found.shape[1]} codes up to {found.max(initial=0)}",
            remedy="rerun `dvc repro assign`",
        )
    codes[table["item_id"].to_numpy()] = found
    return codes
