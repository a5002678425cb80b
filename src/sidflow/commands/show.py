"""All that the pipeline knows of one item."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from sidflow.commands import lookup
from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.images import IMAGES
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.contracts.artifacts.semantics import SEMANTICS
from sidflow.contracts.errors import InputError

NEIGHBOURS = 5
SHARING = 3  # items named per prefix


@dataclass(frozen=True)
class Sharing:
    """Items whose codes agree on the first `depth` levels and on no more."""

    depth: int
    count: int
    examples: list[str]


@dataclass(frozen=True)
class SemanticId:
    """An item's codes in one modality."""

    codes: list[int]
    suffix: int
    sharing: list[Sharing]  # deepest first


@dataclass(frozen=True)
class Neighbour:
    """A near item, by cosine."""

    item_key: str
    title: str
    cosine: float


@dataclass(frozen=True)
class Item:
    """What there is of one item; parts whose stage has not run are empty."""

    item_key: str
    title: str
    description: str
    brand: str
    categories: list[str]
    attributes: dict[str, str]
    in_core: bool
    picture: str  # its size, empty where there is none
    training_count: int | None
    views: dict[str, str]
    semantic_ids: dict[str, SemanticId]
    neighbours: dict[str, list[Neighbour]]


def item(key: str) -> Item:
    """Gather what the artifacts hold of an item.

    Raises:
        InputError: the key is unknown, or the catalogue is not there.
    """
    items = ITEMS.read()
    row = lookup.item_row(items, key)
    words = items.row(row, named=True)
    return Item(
        item_key=key,
        title=words["title"],
        description=words["description"],
        brand=words["brand"],
        categories=list(words["categories"]),
        attributes={one["name"]: one["value"] for one in words["attributes"]},
        in_core=words["in_core"],
        picture=_picture(row),
        training_count=_training_count(row, items.height),
        views=_views(row),
        semantic_ids=_semantic_ids(row, items),
        neighbours=_neighbours(row, items),
    )


def as_json(found: Item) -> str:
    """Return it as JSON."""
    return json.dumps(asdict(found), indent=2, ensure_ascii=False)


def as_text(found: Item) -> str:
    """Return it as lines to read."""
    lines = [f"{found.title or '(no title)'}  [{found.item_key}]"]
    for name, value in {
        "brand": found.brand,
        "categories": " > ".join(found.categories),
        **found.attributes,
        "picture": found.picture or "none",
        "in the core": "yes" if found.in_core else "no",
        "in training": "unknown" if found.training_count is None else f"{found.training_count} times",
        "description": found.description,
    }.items():
        lines += _wrapped(name, value)
    for view, text in found.views.items():
        lines += _wrapped(f"{view} view", text)
    for modality, identity in found.semantic_ids.items():
        suffix = f", suffix {identity.suffix}" if identity.suffix else ""
        lines += ["", f"Semantic ID, {modality}: {'-'.join(map(str, identity.codes))}{suffix}"]
        lines += [_shared(one, len(identity.codes)) for one in identity.sharing]
        lines += [] if identity.sharing else ["  shares its first code with no item"]
    for modality, near in found.neighbours.items():
        lines += ["", f"Nearest, {modality}"]
        lines += [f"  {one.cosine:.3f}  {one.title or '(no title)'}  [{one.item_key}]" for one in near] or ["  absent"]
    return "\n".join(lines)


def _shared(one: Sharing, levels: int) -> str:
    codes = "all codes" if one.depth == levels else "first code" if one.depth == 1 else f"first {one.depth} codes"
    others = "1 other" if one.count == 1 else f"{one.count} others"
    example = "" if one.count <= len(one.examples) else "for example "
    return f"  {codes} shared with {others}: {example}{'; '.join(one.examples)}"


def _wrapped(name: str, value: str) -> list[str]:
    return textwrap.wrap(value, 110, initial_indent=f"  {name}: ", subsequent_indent="    ") if value else []


def _picture(row: int) -> str:
    if not IMAGES.at().is_file():
        return ""
    found = IMAGES.read(columns=["item_id", "width", "height"]).filter(pl.col("item_id") == row)
    return f"{found['width'][0]} x {found['height'][0]} pixels" if found.height else ""


def _training_count(row: int, count: int) -> int | None:
    try:
        return int(histories.load().training_counts(count)[row])
    except InputError:
        return None


def _views(row: int) -> dict[str, str]:
    if not SEMANTICS.at().is_file():
        return {}
    return dict(SEMANTICS.read().filter(pl.col("item_id") == row).select("view", "text").iter_rows())


def _semantic_ids(row: int, items: pl.DataFrame) -> dict[str, SemanticId]:
    if not SEMANTIC_IDS.at().is_file():
        return {}
    found: dict[str, SemanticId] = {}
    for (modality,), table in SEMANTIC_IDS.read().group_by("modality", maintain_order=True):
        rows, codes = table["item_id"].to_numpy(), table["codes"].to_numpy()
        here = np.flatnonzero(rows == row)
        if not len(here):
            continue
        own = codes[here[0]]
        agreed = np.cumprod(codes == own, axis=1).sum(axis=1)
        agreed[here[0]] = 0
        sharing = [
            Sharing(depth, len(those), [lookup.label(items, int(rows[one])) for one in those[:SHARING]])
            for depth in range(len(own), 0, -1)
            if len(those := np.flatnonzero(agreed == depth))
        ]
        found[str(modality)] = SemanticId([int(code) for code in own], int(table["suffix"][int(here[0])]), sharing)
    return dict(sorted(found.items()))


def _neighbours(row: int, items: pl.DataFrame) -> dict[str, list[Neighbour]]:
    sections: dict[str, Any] = params.load_all().get("modality") or {}
    found: dict[str, list[Neighbour]] = {}
    for name in sections:
        if not MODALITY.at(name=name).is_file():
            continue
        arrays = MODALITY.read(name=name).arrays
        values, present = arrays["values"].astype(np.float64), arrays["present"].copy()
        if not present[row]:
            found[name] = []
            continue
        lengths = np.linalg.norm(values, axis=1)
        cosine = values @ values[row] / np.maximum(lengths * lengths[row], 1e-12)
        present[row] = False
        order = np.argsort(-np.where(present, cosine, -np.inf), kind="stable")[: min(NEIGHBOURS, int(present.sum()))]
        found[name] = [Neighbour(items["item_key"][int(i)], items["title"][int(i)], float(cosine[i])) for i in order]
    return found
