"""Recommendations for a known user, from what `rank` wrote, or for a new history, through a trained encoder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from sidflow.commands import lookup
from sidflow.contracts import histories, params, runtime
from sidflow.contracts.artifacts.factors import WEIGHTS
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.mme_sid import COLD_ROWS, HEADS
from sidflow.contracts.artifacts.rankings import TARGET_RANKS, TOP
from sidflow.contracts.errors import InputError
from sidflow.ranking import answer

MME_SID = "mme_sid"
SHOWN_HISTORY = 10
COLD = "  (cold: outside the core)"


@dataclass(frozen=True)
class Named:
    """An item as a reader knows it."""

    item_key: str
    title: str


@dataclass(frozen=True)
class Recommended(Named):
    """An item in a list."""

    score: float
    cold: bool  # outside the core: training never saw it, and it is scored by its modalities alone


@dataclass(frozen=True)
class Recommendation:
    """What was recommended to whom, by what, after what."""

    model: str
    user_key: str | None
    history: list[Named]  # oldest first
    items: list[Recommended]  # best first
    followed: Named | None  # what the user in truth took next, held out from the model
    followed_rank: int | None  # 1 = best; None where it stands in the history already
    never: int | None = None  # items that could not be recommended, having no modality; None where none cold was asked


class Best(NamedTuple):
    """Items and their scores, best first."""

    items: list[int]
    scores: list[float]


class Asked(NamedTuple):
    """New histories' factors, and who is a candidate in them."""

    arrays: dict[str, np.ndarray]  # of a FACTORS artifact
    candidate: np.ndarray  # bool [n]


def recommend(
    user: str | None, history: list[str] | None, k: int, model: str | None, cold: bool = False
) -> Recommendation:
    """Recommend `k` items to a user of the core, or to whoever has `history` (item keys, oldest first).

    With `cold`, items outside the core are ranked beside those of the core.

    Raises:
        InputError: a key, the model or a runtime setting is unknown, both or neither of user and history are given,
            the model can encode no new history, or it has no rows of cold items and they are asked for.
    """
    if (user is None) == (history is None):
        raise InputError(
            "sidflow recommend",
            expected="either --user or --history",
            found="both" if user is not None else "neither",
            remedy="`sidflow recommend --user USER_KEY`, or `--history ITEM_KEY,ITEM_KEY`",
        )
    if cold and user is not None:
        raise InputError(
            "--include-cold",
            expected="a history: a user's list is the one that was evaluated, over the core",
            found="--user",
            remedy="--history with the keys of the user's items",
        )
    runtime.load()  # a typo there is refused, whether this needs a device or not
    items = ITEMS.read(columns=["item_id", "item_key", "title", "in_core"])
    if user is not None:
        return _for_user(user, k, _chosen(model), items)
    return _for_history([key.strip() for key in history or []], k, _chosen(model), items, cold)


def as_json(found: Recommendation) -> str:
    """Return it as JSON."""
    return json.dumps(asdict(found), indent=2, ensure_ascii=False)


def as_text(found: Recommendation) -> str:
    """Return it as lines to read."""
    lines = [f"{found.model} for {'user ' + found.user_key if found.user_key else 'this history'}", "", "History"]
    left_out = len(found.history) - SHOWN_HISTORY
    lines += [f"  ... {left_out} more before"] if left_out > 0 else []
    lines += [f"  {_line(one)}" for one in found.history[-SHOWN_HISTORY:]]
    lines += ["", "Recommended"]
    lines += [
        f"  {place:>3}. {_line(one)}  {one.score:.4g}{COLD if one.cold else ''}"
        for place, one in enumerate(found.items, 1)
    ]
    if found.never:
        items = f"{found.never} item{'s' if found.never > 1 else ''}"
        lines += ["", f"Never recommended, having no modality: {items} outside the core"]
    if found.followed is not None:
        rank = f"rank {found.followed_rank}" if found.followed_rank else "not rankable: it is in the history"
        lines += ["", f"Taken next in truth: {_line(found.followed)}  ({rank})"]
    return "\n".join(lines)


def _line(one: Named) -> str:
    return f"{one.title or '(no title)'}  [{one.item_key}]"


def _chosen(model: str | None) -> str:
    known = list(params.load_all().get("recommenders") or [])
    if model is None and known:
        return MME_SID if MME_SID in known else known[0]
    if model not in known:
        raise InputError(
            "params.yaml:recommenders",
            expected=f"one of {', '.join(known)}",
            found=str(model),
            remedy="--model with one of these names",
        )
    assert model is not None
    return model


def _for_user(key: str, k: int, model: str, items: pl.DataFrame) -> Recommendation:
    user = lookup.user_row(key)
    known = histories.load()
    asked = np.flatnonzero(known.query_user == user)
    if not len(asked):
        raise InputError(
            f"user {key}",
            expected="a query of this user",
            found="none: the history is too short for one",
            remedy="--history with the keys of the user's items",
        )
    query = int(max(asked, key=lambda one: (not known.query_valid[one], known.query_end[one])))
    top = TOP.read(model=model).row(query, named=True)
    if k > len(top["items"]):
        raise InputError(
            str(TOP.at(model=model)),
            expected=f"{k} items per query",
            found=f"{len(top['items'])}",
            remedy=f"-k {len(top['items'])}, or raise rank.top in params.yaml and `dvc repro`",
        )
    ranks = TARGET_RANKS.read(model=model).row(query, named=True)
    best = [(item, score) for item, score in zip(top["items"], top["scores"], strict=True) if item >= 0][:k]
    return Recommendation(
        model=model,
        user_key=key,
        history=[_named(items, int(item)) for item in known.history(query)],
        items=_scored(items, Best([item for item, _ in best], [score for _, score in best])),
        followed=_named(items, int(known.targets[query])),
        followed_rank=int(ranks["rank"]) if ranks["rank"] <= ranks["candidates"] else None,
    )


def _for_history(keys: list[str], k: int, model: str, items: pl.DataFrame, cold: bool) -> Recommendation:
    rows = [lookup.item_row(items, key) for key in keys]
    outside = [key for key, row in zip(keys, rows, strict=True) if row >= int(items["in_core"].sum())]
    if outside and not _finetuned(model):
        raise InputError(
            "--history",
            expected=f"items of the core, which {model} knows",
            found="items outside of it",
            count=len(outside),
            example=outside[0],
            remedy=f"leave them out, or --model {MME_SID}, which knows them by their semantic IDs",
        )
    asked = _asked(model, rows, cold)
    excluded = ~asked.candidate
    if params.load_all().get("rank", {}).get("exclude_history", True):
        excluded[[row for row in rows if row < len(excluded)]] = True
    top = answer.best(asked.arrays, csr_matrix(excluded[None]), k, f"recommender {model}")
    found = top.items[0] >= 0
    best = Best(top.items[0][found].tolist(), top.scores[0][found].tolist())
    named = [_named(items, row) for row in rows]
    never = int((~asked.candidate).sum()) if cold else None
    return Recommendation(model, None, named, _scored(items, best), None, None, never)


def _asked(model: str, history: list[int], cold: bool) -> Asked:
    """Return the factors that answer a new history; what imports torch is imported only now."""
    if not _can_encode(model):
        able = [name for name in params.load_all().get("recommenders") or [] if _can_encode(name)]
        raise InputError(
            f"recommender {model}",
            expected="one that can encode a new history",
            found="one that cannot, or whose weights are not here",
            remedy=f"--model {' or '.join(able)}" if able else "`dvc repro` trains some that can",
        )
    if cold and not COLD_ROWS.at(model=model).is_file():
        able = [name for name in params.load_all()["recommenders"] if COLD_ROWS.at(model=name).is_file()]
        raise InputError(
            "--include-cold",
            expected=f"rows of cold items from {model}",
            found="none",
            remedy=f"--model {' or '.join(able)}" if able else "`dvc repro finetune` makes some",
        )
    if _finetuned(model):
        from sidflow.llm.serving import HistoryEncoder
        from sidflow.training.device import pick_device

        encoder = HistoryEncoder(model, pick_device())
        known = np.ones(len(encoder.item_matrix), dtype=bool)
        candidate = np.concatenate([known, encoder.cold.present]) if cold else known
        return Asked(encoder.factors([history], cold), candidate)
    from sidflow.recommenders.neural import encoding

    recommender = encoding.load(model)
    states, matrix = recommender.encode([np.array(history, dtype=np.int32)]), recommender.item_matrix.numpy()
    return Asked({"query_states": states, "item_matrix": matrix}, np.ones(len(matrix), dtype=bool))


def _can_encode(model: str) -> bool:
    return _finetuned(model) or WEIGHTS.at(model=model).is_file()


def _finetuned(model: str) -> bool:
    return HEADS.at(model=model).is_file()


def _named(items: pl.DataFrame, row: int) -> Named:
    return Named(items["item_key"][row], items["title"][row])


def _scored(items: pl.DataFrame, best: Best) -> list[Recommended]:
    return [
        Recommended(items["item_key"][row], items["title"][row], float(score), not items["in_core"][row])
        for row, score in zip(best.items, best.scores, strict=True)
    ]
