"""The third part of the page: a few users and what is recommended to them, a few items and their semantic IDs."""

from __future__ import annotations

import numpy as np
import polars as pl

from sidflow.report.gather import Gathered, Lists
from sidflow.report.markup import Markup, join, number, tag
from sidflow.report.params import ReportParams
from sidflow.report.pictures import Gallery


def pick(shown: list[Lists], test: np.ndarray, count: int, k: int) -> list[int]:
    """Return test queries of every outcome in turn: who hits in the top k, the first list, the second, both, none.

    Within an outcome the choice is the first by query_id, so that nobody picked what flatters.
    """
    hits = np.zeros(len(test), dtype=int)
    for place, one in enumerate(shown):
        hits += (one.rank <= k) << place
    outcomes = [np.flatnonzero(test & (hits == wanted)).tolist() for wanted in (3, 1, 2, 0)]
    chosen: list[int] = []
    while len(chosen) < count and any(outcomes):
        for queue in outcomes:
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def users(given: Gathered, gallery: Gallery, settings: ReportParams) -> Markup | None:
    """Return a few users: their history, what came next, and what each shown recommender put on top."""
    if not given.shown or settings.users == 0:
        return None
    test = ~given.histories.query_valid
    cards = [
        _user(given, gallery, query, settings)
        for query in pick(list(given.shown), test, settings.users, settings.recommendations)
    ]
    note = "Not picked to flatter: in turn, the first users for whom both lists hit, only one of them, or neither."
    return tag("section", tag("h2", "A few users"), tag("p", note, class_="note"), *cards) if cards else None


def _user(given: Gathered, gallery: Gallery, query: int, settings: ReportParams) -> Markup:
    target = int(given.histories.targets[query])
    history = given.histories.history(query)
    recent = history[-settings.history :].tolist()
    left = len(history) - len(recent)
    key = given.user_keys[int(given.histories.query_user[query])]
    before = tag("span", f"{number(left)} earlier", class_="earlier") if left else None
    rows = [
        tag("h4", "history"),
        tag(
            "div",
            before,
            *[gallery.tile(item) for item in recent],
            tag("span", "→", class_="arrow", aria_hidden="true"),
            gallery.tile(target, "target", f"came next: {gallery.title(target)}"),
            class_="strip",
        ),
    ]
    for one in given.shown:
        rank = int(one.rank[query])
        where = f"target at rank {number(rank)}"
        listed = [int(item) for item in one.top[query, : settings.recommendations] if item >= 0]
        tiles = [
            gallery.tile(item, "hit" if item == target else "", f"{place}. {gallery.title(item)}")
            for place, item in enumerate(listed, start=1)
        ]
        good = "yes" if rank <= settings.recommendations else "no"
        rows.append(tag("h4", one.name, tag("small", where, class_=good)))
        rows.append(tag("div", *tiles, class_="strip"))
    return tag("article", tag("h3", f"user {key}"), *rows, class_="card")


def items(given: Gathered, gallery: Gallery, settings: ReportParams) -> Markup | None:
    """Return a few items: picture, words, what was written about them, and their semantic IDs."""
    core = given.items.filter(pl.col("in_core"))
    if core.is_empty() or settings.items == 0:
        return None
    chosen = np.unique(np.linspace(0, core.height - 1, min(settings.items, core.height)).astype(int)).tolist()
    said = {(item, view): text for item, view, text in given.semantics.select("item_id", "view", "text").iter_rows()}
    ids: dict[int, list[Markup]] = {}
    for item, modality, codes, suffix in given.semantic_ids.filter(pl.col("item_id").is_in(chosen)).iter_rows():
        ids.setdefault(item, []).append(_semantic_id(modality, codes, suffix))
    cards = []
    for item in chosen:
        views = [
            join(tag("dt", view), tag("dd", said[item, view]))
            for view in ("text", "image", "joint")
            if (item, view) in said
        ]
        words = (
            tag("dl", *views, class_="views") if views else tag("p", "Nothing was written about it.", class_="absent")
        )
        codes = ids.get(item, [tag("p", "No semantic ID.", class_="absent")])
        cards.append(
            tag(
                "article",
                gallery.tile(item, "large", " "),
                tag("div", tag("h3", gallery.title(item)), words, tag("div", *codes, class_="ids")),
                class_="card item",
            )
        )
    writers = sorted(given.semantics["writer"].unique().to_list())
    written = f"Semantics written by {', '.join(writers)}. " if writers else ""
    note = f"{written}Evenly spaced through the catalogue. A semantic ID is read from coarse to fine."
    return tag("section", tag("h2", "A few items"), tag("p", note, class_="note"), *cards)


def _semantic_id(modality: str, codes: list[int], suffix: int) -> Markup:
    chips = [tag("span", str(code), class_="code", style=f"--hue:{(code * 137) % 360}") for code in codes]
    if suffix:
        chips.append(tag("span", f"+{suffix}", class_="code suffix"))
    return tag("p", tag("span", modality, class_="modality"), *chips)
