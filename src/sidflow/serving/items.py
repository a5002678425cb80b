"""One item of the catalogue: its text, semantic IDs, embeddings and nearest neighbours."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.artifacts.features import MODALITY, SEMANTICS
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.core.errors import InputError
from sidflow.core.params import load_params
from sidflow.sequences.histories import load_histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int


NEIGHBOURS = 5  # nearest items listed for each modality
EXAMPLES = 3  # items named for each shared prefix, and keys that an error suggests


@dataclass(frozen=True)
class SharedPrefix:
    """The items whose first `levels` codes, at least, equal an item's."""

    levels: int
    items: int  # never fewer than share a longer prefix
    examples: list[str]  # titles of some whose next code differs


@dataclass(frozen=True)
class SemanticId:
    """An item's semantic ID in one modality."""

    codes: list[int]  # coarse to fine
    suffix: int  # 0, 1, 2, ... among the items with the same codes
    shared_prefixes: list[SharedPrefix]  # longest first


@dataclass(frozen=True)
class Neighbour:
    """An item near another one in a modality."""

    item_key: str
    title: str
    cosine: float


@dataclass(frozen=True)
class Item:
    """What the artifacts hold of one item. A field is empty if the stage that writes it has not run."""

    item_key: str
    title: str
    description: str
    brand: str
    categories: list[str]  # most general first
    attributes: dict[str, str]
    in_core: bool  # has enough interactions to be a candidate
    image_size: tuple[int, int] | None  # width and height in pixels
    training_count: int | None  # how often it occurs in training histories
    views: dict[str, str]  # what the writer wrote, by view: `text`, `image`, `joint`
    semantic_ids: dict[str, SemanticId]  # by modality
    neighbours: dict[str, list[Neighbour]]  # by modality, nearest first; empty where the item lacks the modality
    embeddings: dict[str, Float[np.ndarray, " d"]] = field(repr=False, compare=False)  # of modalities that it has

    def embedding(self, modality: str) -> Float[np.ndarray, " d"]:
        """Return the item's row of a modality, float32 [d], as the quantizer reads it.

        Raises:
            InputError: there is no such modality, or the item lacks it.
        """
        if modality not in self.embeddings:
            raise InputError(
                f"embedding of {self.item_key}",
                expected=f"one of its modalities: {', '.join(self.embeddings) or 'it has none'}",
                found=modality,
                remedy="`Project.modalities` lists those of the project",
            )
        return self.embeddings[modality]


def describe_item(key: str) -> Item:
    """Return what the artifacts hold of the item with this key.

    Raises:
        InputError: no item has this key, or the catalogue does not exist.
    """
    items = ITEMS.read()
    row = item_row(items, key)
    content = items.row(row, named=True)
    embeddings, neighbours = _embeddings_and_neighbours(row, items)
    return Item(
        item_key=key,
        title=content["title"],
        description=content["description"],
        brand=content["brand"],
        categories=list(content["categories"]),
        attributes={attribute["name"]: attribute["value"] for attribute in content["attributes"]},
        in_core=content["in_core"],
        image_size=_image_size(row),
        training_count=_training_count(row, items.height),
        views=_views(row),
        semantic_ids=_semantic_ids(row, items),
        neighbours=neighbours,
        embeddings=embeddings,
    )


def item_row(items: pl.DataFrame, key: str) -> int:
    """Return the item_id of an item key; `items` holds item_key and title.

    Raises:
        InputError: no item has this key. The message suggests keys that are close, or whose title contains `key`.
    """
    row = items.select(pl.col("item_key").index_of(key)).item()
    if row is not None:
        return int(row)
    title_matches = items.filter(pl.col("title").str.to_lowercase().str.contains(key.lower(), literal=True))
    close = (title_matches["item_key"].head(EXAMPLES).to_list() if key else []) or close_keys(key, items["item_key"])
    suggested = items.filter(pl.col("item_key").is_in(close)).select("item_key", "title").iter_rows()
    raise InputError(
        str(ITEMS.at()),
        expected="an item key of the catalogue",
        found=repr(key),
        remedy=suggestion(
            [f"{item_key} ({title})" if title else item_key for item_key, title in suggested], items["item_key"]
        ),
    )


def close_keys(key: str, keys: pl.Series) -> list[str]:
    """Return some of `keys` that begin with `key` or, where none does, resemble it."""
    extensions = keys.filter(keys.str.starts_with(key)).head(EXAMPLES).to_list() if key else []
    return extensions or difflib.get_close_matches(key, keys.to_list(), n=EXAMPLES, cutoff=0.6)


def suggestion(close: Sequence[str], keys: pl.Series) -> str:
    """Return the remedy for an unknown key: what was probably meant, or what a valid key looks like."""
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"keys look like {keys[0]!r}" if len(keys) else "there are none; run `dvc repro ingest`"


def title_or_key(items: pl.DataFrame, row: int) -> str:
    """Return an item's title, or its key where the title is empty."""
    return items["title"][row] or items["item_key"][row]


def _image_size(row: int) -> tuple[int, int] | None:
    if not IMAGES.at().is_file():
        return None
    sizes = IMAGES.read(columns=["item_id", "width", "height"]).filter(pl.col("item_id") == row)
    return (sizes["width"][0], sizes["height"][0]) if sizes.height else None


def _training_count(row: int, items: int) -> int | None:
    try:
        return int(load_histories().training_counts(items)[row])
    except InputError:
        return None


def _views(row: int) -> dict[str, str]:
    if not SEMANTICS.at().is_file():
        return {}
    return dict(SEMANTICS.read().filter(pl.col("item_id") == row).select("view", "text").iter_rows())


def _semantic_ids(row: int, items: pl.DataFrame) -> dict[str, SemanticId]:
    if not SEMANTIC_IDS.at().is_file():
        return {}
    ids: dict[str, SemanticId] = {}
    for (modality,), table in SEMANTIC_IDS.read().group_by("modality", maintain_order=True):
        item_ids, codes = table["item_id"].to_numpy(), table["codes"].to_numpy()
        own_rows = np.flatnonzero(item_ids == row)
        if len(own_rows):
            own = int(own_rows[0])
            prefixes = _shared_prefixes(own, item_ids, codes, items)
            ids[str(modality)] = SemanticId(codes[own].tolist(), int(table["suffix"][own]), prefixes)
    return dict(sorted(ids.items()))


def _shared_prefixes(
    own: int, item_ids: Int[np.ndarray, " m"], codes: Int[np.ndarray, "m l"], items: pl.DataFrame
) -> list[SharedPrefix]:
    """Return the items that share each prefix of the codes of row `own`, longest prefix first.

    A prefix that no other item shares without the next code is left out: a longer one stands for it.
    """
    shared_levels = np.cumprod(codes == codes[own], axis=1).sum(axis=1)
    shared_levels[own] = 0
    return [
        SharedPrefix(
            levels,
            int((shared_levels >= levels).sum()),
            [title_or_key(items, int(item_ids[row])) for row in rows[:EXAMPLES]],
        )
        for levels in range(codes.shape[1], 0, -1)
        if len(rows := np.flatnonzero(shared_levels == levels))
    ]


def _embeddings_and_neighbours(
    row: int, items: pl.DataFrame
) -> tuple[dict[str, np.ndarray], dict[str, list[Neighbour]]]:
    """Return the item's row of each modality that it has, and the items nearest to it by cosine."""
    embeddings: dict[str, np.ndarray] = {}
    neighbours: dict[str, list[Neighbour]] = {}
    for modality in load_params().get("modality") or {}:
        if not MODALITY.at(name=modality).is_file():
            continue
        arrays = MODALITY.read(name=modality).arrays
        values, present = arrays["values"].astype(np.float64), arrays["present"].copy()
        if not present[row]:
            neighbours[modality] = []
            continue
        embeddings[modality] = arrays["values"][row].copy()
        norms = np.linalg.norm(values, axis=1)
        cosine = values @ values[row] / np.maximum(norms * norms[row], 1e-12)
        present[row] = False
        nearest = np.argsort(-np.where(present, cosine, -np.inf), kind="stable")[: min(NEIGHBOURS, int(present.sum()))]
        neighbours[modality] = [
            Neighbour(items["item_key"][int(index)], items["title"][int(index)], float(cosine[index]))
            for index in nearest
        ]
    return embeddings, neighbours
