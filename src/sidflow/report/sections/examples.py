"""A few users and what is recommended to them, a few items and their semantic IDs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError

from sidflow.artifacts.item_content import item_texts, truncate_at_word
from sidflow.report.markup import Markup, join, number, tag

if TYPE_CHECKING:
    from sidflow.report.data import RankedLists, ReportData, ReportParams

OWN_CHARACTERS = 300  # of an item's own words
_COMMIT = re.compile(r"@([0-9a-f]{12})[0-9a-f]{28,}$")  # a model's commit or hash, shown short


class Gallery:
    """Makes tiles of items. The page holds each picture once, as a CSS background that all its tiles share."""

    def __init__(self, pictures: Mapping[int, bytes], titles: Mapping[int, str], side: int, quality: int) -> None:
        """Take JPEG pictures and titles by item_id; thumbnails have at most `side` pixels a side."""
        self._pictures, self._titles = pictures, titles
        self._side, self._quality = side, quality
        self._used: dict[int, str | None] = {}

    def title(self, item: int) -> str:
        """Return the item's title, or its key where the title is empty."""
        return self._titles[item]

    def tile(self, item: int, mark: str = "", note: str = "") -> Markup:
        """Return an item as a tile; `mark` is a CSS class (`hit`, `target`), `note` a caption in place of the title."""
        title = self.title(item)
        if self._thumbnail(item) is None:
            face = tag("span", title, class_="face words", title=title)
        else:
            face = tag("span", class_=f"face p{item}", role="img", aria_label=title, title=title)
        caption = tag("figcaption", note or title, title=title)
        return tag("figure", face, caption, class_=f"tile {mark}".strip())

    def style(self) -> str:
        """Return the CSS with the pictures of all tiles so far."""
        return "\n".join(
            f".p{item}{{background-image:url({data})}}" for item, data in sorted(self._used.items()) if data is not None
        )

    def _thumbnail(self, item: int) -> str | None:
        if item not in self._used:
            self._used[item] = self._encode(self._pictures.get(item))
        return self._used[item]

    def _encode(self, packed: bytes | None) -> str | None:
        if packed is None:
            return None
        try:
            with Image.open(io.BytesIO(packed), formats=("JPEG",)) as picture:
                small = picture.convert("RGB")
        except (UnidentifiedImageError, OSError):
            return None
        small.thumbnail((self._side, self._side))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=self._quality)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def choose_queries(ranked_lists: list[RankedLists], test: np.ndarray, count: int, k: int) -> list[int]:
    """Return test queries of every outcome in turn: both lists have the target in their top k, one of them, none.

    Within an outcome the first by query_id come first, so that no example is picked by hand.
    """
    hits = np.zeros(len(test), dtype=int)
    for bit, ranked in enumerate(ranked_lists):
        hits += (ranked.rank <= k) << bit
    outcomes = [np.flatnonzero(test & (hits == outcome)).tolist() for outcome in (3, 1, 2, 0)]
    query_ids: list[int] = []
    while len(query_ids) < count and any(outcomes):
        for queue in outcomes:
            if queue and len(query_ids) < count:
                query_ids.append(queue.pop(0))
    return query_ids


def users_section(data: ReportData, gallery: Gallery, settings: ReportParams) -> Markup | None:
    """Return some users: their history, the held-out next item, and the two recommenders' lists."""
    if not data.ranked_lists or settings.users == 0:
        return None
    test = ~data.histories.query_valid
    cards = [
        _user_card(data, gallery, query, settings)
        for query in choose_queries(list(data.ranked_lists), test, settings.users, settings.recommendations)
    ]
    note = (
        "Not picked by hand: in turn the first users for whom both lists, only one of them, or neither has the target."
    )
    return tag("section", tag("h2", "Example users"), tag("p", note, class_="note"), *cards) if cards else None


def _user_card(data: ReportData, gallery: Gallery, query: int, settings: ReportParams) -> Markup:
    target = int(data.histories.targets[query])
    history = data.histories.history(query)
    recent = history[-settings.history :].tolist()
    hidden = len(history) - len(recent)
    key = data.user_keys[int(data.histories.query_user[query])]
    earlier = tag("span", f"{number(hidden)} earlier", class_="earlier") if hidden else None
    rows = [
        tag("h4", "history"),
        tag(
            "div",
            earlier,
            *[gallery.tile(item) for item in recent],
            tag("span", "→", class_="arrow", aria_hidden="true"),
            gallery.tile(target, "target", f"next: {gallery.title(target)}"),
            class_="strip",
        ),
    ]
    for ranked in data.ranked_lists:
        rank = int(ranked.rank[query])
        note = f"target at rank {number(rank)}"
        if rank > ranked.candidates[query]:
            where = "in the history" if target in history else "not on the list"
            note = f"target without a rank: it is {where}"
        recommended = [int(item) for item in ranked.top[query, : settings.recommendations] if item >= 0]
        tiles = [
            gallery.tile(item, "hit" if item == target else "", f"{position}. {gallery.title(item)}")
            for position, item in enumerate(recommended, start=1)
        ]
        style = "yes" if rank <= settings.recommendations else "no"
        rows.append(tag("h4", ranked.name, tag("small", note, class_=style)))
        rows.append(tag("div", *tiles, class_="strip"))
    return tag("article", tag("h3", f"user {key}"), *rows, class_="card")


def items_section(data: ReportData, gallery: Gallery, settings: ReportParams) -> Markup | None:
    """Return some items: picture, own words, the views that were written of them, and their semantic IDs."""
    core = data.items.filter(pl.col("in_core"))
    if core.is_empty() or settings.items == 0:
        return None
    item_ids = np.unique(np.linspace(0, core.height - 1, min(settings.items, core.height)).astype(int)).tolist()
    descriptions, semantic_ids = _descriptions(data, item_ids), _semantic_ids(data, item_ids)
    cards = []
    for item in item_ids:
        face = gallery.tile(item, "large", " ")
        words = tag("div", tag("h3", gallery.title(item)), descriptions[item], semantic_ids.get(item))
        cards.append(tag("article", face, words, class_="card item"))
    writers = sorted(_COMMIT.sub(r"@\1", writer) for writer in data.semantics["writer"].unique())
    writer_note = f"Descriptions written by {', '.join(writers)}. " if writers else ""
    ids_note = "A semantic ID reads from coarse to fine." if semantic_ids else "The run has no semantic IDs."
    note = f"{writer_note}Evenly spaced through the catalogue. {ids_note}"
    return tag("section", tag("h2", "Example items"), tag("p", note, class_="note"), *cards)


def _descriptions(data: ReportData, item_ids: list[int]) -> dict[int, Markup]:
    """Return each item's own words and the views that were written of it."""
    view_text = {
        (item, view): text for item, view, text in data.semantics.select("item_id", "view", "text").iter_rows()
    }
    own = dict(zip(item_ids, item_texts(data.items.filter(pl.col("item_id").is_in(item_ids))), strict=True))
    descriptions = {}
    for item in item_ids:
        pieces = (piece.rstrip(".") for piece in own[item]._replace(title="").pieces())
        words = truncate_at_word(". ".join(pieces), OWN_CHARACTERS)
        views = [join(tag("dt", "own words"), tag("dd", words))] if words else []
        views += [
            join(tag("dt", view), tag("dd", view_text[item, view]))
            for view in ("text", "image", "joint", "keywords")
            if (item, view) in view_text
        ]
        descriptions[item] = (
            tag("dl", *views, class_="views") if views else tag("p", "No description.", class_="absent")
        )
    return descriptions


def _semantic_ids(data: ReportData, item_ids: list[int]) -> dict[int, Markup]:
    """Return each item's semantic IDs, or that it has none; empty where the run has none at all."""
    if data.semantic_ids.is_empty():
        return {}
    ids: dict[int, list[Markup]] = {item: [] for item in item_ids}
    for item, modality, codes, suffix in data.semantic_ids.filter(pl.col("item_id").is_in(item_ids)).iter_rows():
        ids[item].append(_semantic_id(modality, codes, suffix))
    absent = tag("p", "No semantic ID.", class_="absent")
    return {item: tag("div", *(of_item or [absent]), class_="ids") for item, of_item in ids.items()}


def _semantic_id(modality: str, codes: list[int], suffix: int) -> Markup:
    chips = [tag("span", str(code), class_="code", style=f"--hue:{(code * 137) % 360}") for code in codes]
    if suffix:
        chips.append(tag("span", f"+{suffix}", class_="code suffix"))
    return tag("p", tag("span", modality, class_="modality"), *chips)
