"""Recommendations: for a user of the catalogue, the list that was evaluated; for a new history, a fresh one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from sidflow.artifacts.catalog import ITEMS, USERS
from sidflow.artifacts.evaluation import LISTED, TARGET_RANKS, TOP
from sidflow.core.errors import InputError, closest_names
from sidflow.core.params import load_params
from sidflow.core.runtime import load_runtime
from sidflow.ranking.search import search_top_k
from sidflow.sequences.histories import load_exclude_history, load_histories
from sidflow.serving.history_encoders import (
    EncodeHistory,
    can_encode,
    load_history_encoder,
    reads_cold_items,
    scores_cold_items,
)
from sidflow.serving.items import close_keys, item_row, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence


DEFAULT = "mme_sid"  # the recommender that answers where none is named, if the project has it


@dataclass(frozen=True)
class NamedItem:
    """An item's key and title."""

    item_key: str
    title: str


@dataclass(frozen=True)
class RecommendedItem(NamedItem):
    """An item of a list."""

    score: float
    cold: bool  # outside the core: no training history holds it, so that its modalities alone give its score


@dataclass(frozen=True)
class Recommendation:
    """What a recommender lists after a history."""

    recommender: str
    user_key: str | None  # None for a new history
    history: list[NamedItem]  # oldest first
    items: list[RecommendedItem]  # best first
    target: NamedItem | None  # of a user: the held-out item that really came next
    target_rank: int | None  # 1 = best; None where the target is in the history, or on no list that a beam gives
    unscored: int | None = None  # with cold items: how many of them have no modality, and so no score


def recommend_to_user(key: str, k: int, recommender: str | None = None) -> Recommendation:
    """Return the first `k` items of the evaluated list of a user of the core.

    Raises:
        InputError: the user or the recommender is unknown, the user has no query, or the list is shorter than `k`
            though more candidates are left.
    """
    name, items = choose_recommender(recommender), _read_items()
    histories = load_histories()
    queries = np.flatnonzero(histories.query_user == _user_row(key))
    if not len(queries):
        raise InputError(
            f"user {key}",
            expected="a query of this user",
            found="none: the history is too short for one",
            remedy="--history with the keys of the user's items",
        )
    if not TOP.at(model=name).is_file():
        ranked = [other for other in load_params()["recommenders"] if TOP.at(model=other).is_file()]
        raise InputError(
            f"recommender {name}",
            expected="a ranking of the test queries",
            found="none: it has not been run",
            remedy=f"`dvc repro rank@{name}`" + (f", or --recommender {ranked[0]}" if ranked else ""),
        )
    query = int(max(queries, key=lambda index: (not histories.query_valid[index], histories.query_end[index])))
    lists, target_ranks = TOP.read(model=name), TARGET_RANKS.read(model=name)
    if not lists.height == target_ranks.height == histories.query_count:
        raise InputError(
            str(TOP.at(model=name)),
            expected=f"the lists of {histories.query_count} queries, as split made",
            found=f"{lists.height}",
            remedy=f"run `dvc repro rank@{name}`: the ranking is of another split",
        )
    top, ranks = lists.row(query, named=True), target_ranks.row(query, named=True)
    if len(top["items"]) < min(k, ranks["candidates"]):
        raise InputError(
            str(TOP.at(model=name)),
            expected=f"{k} items per query",
            found=f"{len(top['items'])}",
            remedy=f"-k {len(top['items'])}, or raise rank.top in params.yaml and `dvc repro`",
        )
    listed = sum(item >= 0 for item in top["items"])
    if LISTED in ranks and 0 < listed < min(k, ranks["candidates"]):
        raise InputError(
            str(TOP.at(model=name)),
            expected=f"{k} items for user {key}",
            found=f"{listed}, those of the beam",
            remedy=f"-k {listed}, or raise `beam` of {name} in params.yaml and `dvc repro`",
        )
    return Recommendation(
        recommender=name,
        user_key=key,
        history=[_named_item(items, int(item)) for item in histories.history(query)],
        items=_recommended_items(items, top["items"], top["scores"])[:k],
        target=_named_item(items, int(histories.targets[query])),
        target_rank=int(ranks["rank"]) if ranks["rank"] <= ranks["candidates"] else None,
    )


def recommend_after(
    keys: Sequence[str],
    k: int,
    recommender: str | None = None,
    include_cold: bool = False,
    encoders: dict[str, EncodeHistory] | None = None,
) -> Recommendation:
    """Return the best `k` items after a new history, ranked over all candidates.

    Args:
        keys: item keys, oldest first.
        k: how many items; all candidates where there are fewer.
        recommender: a name; see `choose_recommender`.
        include_cold: rank items outside the core as well, where the recommender has rows of them.
        encoders: loaded recommenders by name, which the call adds to: pass it again to load none twice.

    Raises:
        InputError: the history is empty, a key or the recommender is unknown, or the recommender cannot encode a new
            history, does not know one of its items, or has no rows of cold items.
    """
    if not keys:
        raise InputError("history", expected="item keys, at least one", found="none", remedy="pass the user's items")
    name, items = choose_recommender(recommender), _read_items()
    rows = [item_row(items, key) for key in keys]
    cold_keys = [key for key, row in zip(keys, rows, strict=True) if row >= int(items["in_core"].sum())]
    if cold_keys and not reads_cold_items(name):
        names = load_params().get("recommenders") or []
        readers = [name for name in names if reads_cold_items(name) and can_encode(name)]
        raise InputError(
            "history",
            expected=f"items of the core, which {name} was trained on",
            found="items outside of it",
            count=len(cold_keys),
            example=cold_keys[0],
            remedy=" or ".join(["leave them out", *(f"take recommender {name}" for name in readers)]),
        )
    _check_can_answer(name, include_cold)
    encoders = {} if encoders is None else encoders
    if name not in encoders:
        encoders[name] = load_history_encoder(name)
    k = min(k, items.height)
    factors = encoders[name](rows, include_cold, k)
    excluded = ~factors.candidates
    if load_exclude_history():
        excluded[[row for row in rows if row < len(excluded)]] = True
    top = search_top_k(factors.arrays, csr_matrix(excluded[None]), k, f"recommender {name}")
    return Recommendation(
        recommender=name,
        user_key=None,
        history=[_named_item(items, row) for row in rows],
        items=_recommended_items(items, top.items[0].tolist(), top.scores[0].tolist()),
        target=None,
        target_rank=None,
        unscored=factors.unscored if include_cold else None,
    )


def choose_recommender(name: str | None) -> str:
    """Return `name`, or the default of the project where it is None.

    Raises:
        InputError: params.yaml has no recommender of this name.
    """
    names = list(load_params().get("recommenders") or [])
    if name is None and names:
        return DEFAULT if DEFAULT in names else names[0]
    if name is None or name not in names:
        raise InputError(
            "params.yaml:recommenders",
            expected=closest_names(str(name), names),
            found=str(name),
            remedy="name one of these recommenders",
        )
    return name


def _check_can_answer(recommender: str, include_cold: bool) -> None:
    names = list(load_params().get("recommenders") or [])
    if not can_encode(recommender):
        supported = [name for name in names if can_encode(name)]
        raise InputError(
            f"recommender {recommender}",
            expected="one that can encode a new history",
            found="one that cannot, or whose weights are absent",
            remedy=f"take recommender {' or '.join(supported)}" if supported else "`dvc repro` trains some that can",
        )
    if include_cold and not scores_cold_items(recommender):
        supported = [name for name in names if scores_cold_items(name)]
        raise InputError(
            "cold items",
            expected=f"rows of cold items from {recommender}",
            found="none",
            remedy=f"take recommender {' or '.join(supported)}" if supported else "`dvc repro finetune` makes some",
        )


def _read_items() -> pl.DataFrame:
    load_runtime()  # a wrong runtime setting is an error, whether this answer needs a device or not
    return ITEMS.read(columns=["item_id", "item_key", "title", "in_core"])


def _user_row(key: str) -> int:
    """Return the user_id of a user key.

    Raises:
        InputError: no user of the core has this key. The message suggests keys that are close.
    """
    keys = USERS.read()["user_key"]
    row = keys.index_of(key)
    if row is not None:
        return int(row)
    raise InputError(
        str(USERS.at()),
        expected="a user key of the core",
        found=repr(key),
        remedy=suggestion(close_keys(key, keys), keys),
    )


def _named_item(items: pl.DataFrame, row: int) -> NamedItem:
    return NamedItem(items["item_key"][row], items["title"][row])


def _recommended_items(items: pl.DataFrame, rows: Sequence[int], scores: Sequence[float]) -> list[RecommendedItem]:
    """Return the items of a list; -1 stands for an empty position at its end."""
    return [
        RecommendedItem(items["item_key"][row], items["title"][row], float(score), not items["in_core"][row])
        for row, score in zip(rows, scores, strict=True)
        if row >= 0
    ]
