"""Item tokens: one vector per item, made of its modality rows and code vectors by an MLP.

`load_item_inputs` reads what items are made of; `ItemTokens` is the network. An item's token takes the place of one
word embedding in the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS, modality_codebooks
from sidflow.core.errors import InputError
from sidflow.mme_sid.params import FinetuneParams
from sidflow.training.checkpoint import module_key

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


class CodeVectors(nn.Module):
    """The sum of an item's code vectors in one modality, initialised from the quantizer's codebooks.

    Source: MME-SID (arXiv 2509.02017), stage 2. Deviation: where the codebooks are not as wide as the language model,
    a linear map follows, so that a small quantizer fits any model.
    """

    codes: Tensor
    absent: Tensor

    def __init__(self, modality: ModalityInputs, hidden: int, init: str, trainable: bool) -> None:
        super().__init__()
        codebooks = torch.from_numpy(modality.codebooks.copy()).float()
        if init == "random":
            codebooks = torch.randn_like(codebooks) * codebooks.std()
        self.vectors = nn.Parameter(codebooks, requires_grad=trainable)
        levels, size, width = codebooks.shape
        self.project = nn.Identity() if width == hidden else nn.Linear(width, hidden, bias=False)
        self.missing = nn.Parameter(torch.randn(hidden) * 0.02)
        codes = torch.from_numpy(modality.codes)
        self.register_buffer("codes", codes.clamp(min=0) + torch.arange(levels) * size, persistent=False)
        self.register_buffer("absent", (codes < 0).any(1), persistent=False)

    @property
    def present(self) -> Bool[Tensor, " n"]:
        """Return which items have codes."""
        return ~self.absent

    def sums(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Return the sums of code vectors, in the codebooks' own width."""
        return functional.embedding(self.codes[items], self.vectors.flatten(0, 1)).sum(1)

    def forward(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n h"]:
        """Return the sums in the language model's width; a learned vector for items without codes."""
        return torch.where(self.absent[items, None], self.missing, self.project(self.sums(items)))


class RawVectors(nn.Module):
    """The frozen row of one modality, projected into the language model's width."""

    raw: Tensor
    present: Tensor

    def __init__(self, modality: ModalityInputs, hidden: int) -> None:
        super().__init__()
        self.register_buffer("raw", torch.from_numpy(modality.raw.copy()).float(), persistent=False)
        self.register_buffer("present", torch.from_numpy(modality.present.copy()), persistent=False)
        self.project = nn.Linear(self.raw.shape[1], hidden)
        self.missing = nn.Parameter(torch.randn(hidden) * 0.02)

    def forward(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n h"]:
        """Return the projected rows; a learned vector for items without the modality."""
        return torch.where(self.present[items, None], self.project(self.raw[items]), self.missing)


class ItemTokens(nn.Module):
    """GELU(MLP(parts)): the parts are the raw row and the code vectors of every modality, each in width h.

    Source: MME-SID (arXiv 2509.02017), stage 2; the MLP is [parts * h -> 3h -> ReLU -> h].
    """

    def __init__(self, modalities: dict[str, ModalityInputs], hidden: int, params: FinetuneParams) -> None:
        super().__init__()
        self.raw = nn.ModuleDict()
        self.codes = nn.ModuleDict()
        for name, modality in zip(map(module_key, modalities), modalities.values(), strict=True):
            if params.raw:
                self.raw[name] = RawVectors(modality, hidden)
            if params.codes:
                self.codes[name] = CodeVectors(modality, hidden, params.codebook_init, params.train_codes)
        parts = len(self.raw) + len(self.codes)
        self.fuse = nn.Sequential(nn.Linear(parts * hidden, 3 * hidden), nn.ReLU(), nn.Linear(3 * hidden, hidden))
        self.dropout = nn.Dropout(params.token_dropout)

    def forward(self, items: Int[Tensor, " n"]) -> Float[Tensor, "n h"]:
        """Return one token per item, without dropout."""
        parts = [part(items) for part in (*self.raw.values(), *self.codes.values())]
        return functional.gelu(self.fuse(torch.cat(parts, 1)))

    def of_sequences(self, items: Int[Tensor, "b t"]) -> Float[Tensor, "b t h"]:
        """Return the tokens of whole sequences: each item's token is computed once, dropout applies per position."""
        unique, index = torch.unique(items, return_inverse=True)
        return self.dropout(functional.embedding(index, self(unique)))
