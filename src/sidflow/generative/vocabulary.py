"""Semantic IDs as tokens: every level of an ID has tokens of its own, and every item one token a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.core.errors import InputError, InvalidValue
from sidflow.core.params import Params

if TYPE_CHECKING:
    from jaxtyping import Bool, Int64

Normalise = Literal["children", "vocabulary"]  # what the probability of a code is a share of

PAD, BOS, UNKNOWN = 0, 1, 2  # before the tokens of the first level; UNKNOWN stands for an item without an ID
SPECIAL_TOKENS = 3


class IdParams(Params):
    """Which semantic IDs are generated."""

    modalities: tuple[str, ...] = Field(
        default=("text",), min_length=1, description="their codes follow one another in an ID, in this order"
    )
    suffix: Literal["token", "none"] = Field(
        default="token", description="token: one more level tells items of equal codes apart | none: they share an ID"
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> IdParams:
        if len(set(self.modalities)) < len(self.modalities):
            raise InvalidValue("`modalities` with every name once", ", ".join(self.modalities))
        return self


class IdVocabulary(NamedTuple):
    """The tokens of all IDs. Token `first[level] + code` is `code` at `level`."""

    sizes: tuple[int, ...]  # tokens of each level

    @property
    def levels(self) -> int:
        """Tokens in an ID."""
        return len(self.sizes)

    @property
    def first(self) -> Int64[np.ndarray, " l"]:
        """The first token of each level."""
        return SPECIAL_TOKENS + np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    @property
    def size(self) -> int:
        """Number of tokens, the special ones included."""
        return SPECIAL_TOKENS + sum(self.sizes)

    def last_columns(self, level: int) -> slice:
        """Return where the tokens of `level` stand at the end of a vocabulary that ends with these tokens."""
        start = int(self.first[level]) - self.size
        return slice(start, start + self.sizes[level] or None)

    def tokens(self, codes: Int64[np.ndarray, "n l"]) -> Int64[np.ndarray, "n l"]:
        """Return the tokens of IDs; those of an item without an ID (codes -1) are UNKNOWN."""
        return np.where(codes >= 0, codes + self.first, UNKNOWN)


class ItemIds(NamedTuple):
    """The ID of every item as codes from 0, level by level; a row of -1 for an item without one."""

    codes: Int64[np.ndarray, "n l"]
    vocabulary: IdVocabulary

    @property
    def present(self) -> Bool[np.ndarray, " n"]:
        """Which items have an ID."""
        return np.all(self.codes >= 0, axis=1)

    @property
    def tokens(self) -> Int64[np.ndarray, "n l"]:
        """The tokens of every item."""
        return self.vocabulary.tokens(self.codes)

    def sharing(self) -> Int64[np.ndarray, " n"]:
        """Return how many items have each item's ID, itself included; 0 for an item without one."""
        present = self.present
        counts = np.zeros(len(self.codes), dtype=np.int64)
        if present.any():
            _, label, size = np.unique(self.codes[present], axis=0, return_inverse=True, return_counts=True)
            counts[present] = size[label.reshape(-1)]
        return counts


def load_item_ids(
    items: int, code_counts: Mapping[str, Sequence[int]], params: IdParams, sizes: Sequence[int] | None = None
) -> ItemIds:
    """Read the IDs that `params` name.

    Args:
        items: number of catalogue items.
        code_counts: codes of each level, by quantized modality.
        params: which IDs.
        sizes: tokens of each level of a trained vocabulary; an item whose ID has others has none. None: of these IDs.

    Raises:
        InputError: a modality has no IDs, or the table is of another catalogue.
    """
    return make_item_ids(SEMANTIC_IDS.read(), items, code_counts, params, sizes)


def make_item_ids(
    table: pl.DataFrame,
    items: int,
    code_counts: Mapping[str, Sequence[int]],
    params: IdParams,
    sizes: Sequence[int] | None = None,
) -> ItemIds:
    """Return the IDs that `params` name, from the table SEMANTIC_IDS; the rest is as in `load_item_ids`."""
    path = str(SEMANTIC_IDS.at())
    blocks, level_sizes = [], []
    suffixes = np.full((len(params.modalities), items), -1, dtype=np.int64)
    for index, modality in enumerate(params.modalities):
        if modality not in code_counts:
            raise InputError(
                path,
                expected=f"semantic IDs of the modality `{modality}`, which params ask for",
                found=f"those of {', '.join(code_counts) or 'none'}",
                remedy="name one of these in `ids.modalities`, or add the modality to params.yaml",
            )
        rows = table.filter(pl.col("modality") == modality)
        item = rows["item_id"].to_numpy()
        if len(item) and item.max() >= items:
            raise InputError(
                path,
                expected=f"items below {items}, as in the catalogue",
                found="others",
                count=int((item >= items).sum()),
                example=int(item.max()),
                remedy="run `dvc repro` so that IDs and catalogue are of one run",
            )
        counts = list(code_counts[modality])
        of_rows = rows["codes"].to_numpy()
        if of_rows.shape[1] != len(counts) or (of_rows >= np.array(counts)).any():
            raise InputError(
                path,
                expected=f"codes of `{modality}` below {counts}, as the quantizer has them",
                found=f"up to {of_rows.max(axis=0, initial=0).tolist()}",
                remedy="run `dvc repro assign`",
            )
        codes = np.full((items, len(counts)), -1, dtype=np.int64)
        codes[item] = of_rows
        suffixes[index, item] = rows["suffix"].to_numpy()
        if len(params.modalities) > 1:  # an item that lacks one of them still has an ID: a code for what is absent
            absent = codes[:, 0] < 0
            codes[absent] = counts
            counts = [count + 1 for count in counts]
        blocks.append(codes)
        level_sizes += counts
    codes = np.concatenate(blocks, axis=1)
    if len(params.modalities) > 1:
        nothing = (codes == np.array(level_sizes) - 1).all(axis=1)
        codes[nothing] = -1
    if params.suffix == "token":
        first = (suffixes >= 0).argmax(axis=0)  # equal codes are of equal modalities, so that suffixes differ
        last = np.where((codes >= 0).all(axis=1), suffixes[first, np.arange(items)], -1)
        codes = np.concatenate([codes, last[:, None]], axis=1)
        level_sizes.append(_reserved(int(last.max(initial=0)) + 1))
    return _within(ItemIds(codes, IdVocabulary(tuple(level_sizes))), sizes)


def _reserved(count: int) -> int:
    """Return the next power of two above `count`: suffixes that new items may get have tokens already."""
    return 1 << count.bit_length()


def _within(ids: ItemIds, sizes: Sequence[int] | None) -> ItemIds:
    """Return the IDs in a vocabulary of level `sizes`; an item that has a code beyond them has none."""
    if sizes is None:
        return ids
    if len(sizes) != ids.vocabulary.levels:
        raise InputError(
            str(SEMANTIC_IDS.at()),
            expected=f"IDs of {len(sizes)} levels, as the recommender was trained on",
            found=f"{ids.vocabulary.levels}",
            remedy="train it again: dvc repro",
        )
    fits = np.all(ids.codes < np.array(sizes), axis=1)
    return ItemIds(np.where(fits[:, None], ids.codes, -1), IdVocabulary(tuple(sizes)))
