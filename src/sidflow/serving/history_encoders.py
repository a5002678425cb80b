"""Trained models as functions from a new history to its scores, one for each kind of recommender."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.artifacts.recommenders import COLD_ROWS, HEADS, SUMMARY, WEIGHTS, ScoreFactors
from sidflow.blending.params import BlendParams
from sidflow.core.errors import InputError
from sidflow.core.params import load_params, load_section
from sidflow.sequences.histories import load_exclude_history

if TYPE_CHECKING:
    from jaxtyping import Bool


class HistoryFactors(NamedTuple):
    """The two factors of a new history's scores."""

    arrays: dict[str, np.ndarray]  # of a FACTORS artifact with one query
    candidates: Bool[np.ndarray, " n"]  # which items have a score; of those that a beam generates, the listed ones
    unscored: int = 0  # with cold items: how many of them can have no score after any history


# from item ids, oldest first, whether to add cold rows, and how many items the list is to have
EncodeHistory = Callable[[list[int], bool, int], HistoryFactors]


def load_history_encoder(recommender: str) -> EncodeHistory:
    """Return a trained model as a function from a history to its factors; torch is imported only here.

    Raises:
        InputError: its weights are absent or broken, or its entry of params.yaml does not fit.
    """
    return _LOADERS.get(_section(recommender), _load_sequential_model)(recommender)


def can_encode(recommender: str) -> bool:
    """Return whether a recommender answers new histories as it answers queries.

    A blend with a recommender that generates IDs does not: scores of a beam have a constant on top that depends on
    what the beam lists.
    """
    section = _section(recommender)
    if section == "blend":
        parts = _blended(recommender)
        encodable = (can_encode(part) and _section(part) != "generate" for part in (parts.base, parts.added))
        return SUMMARY.at(model=recommender).is_file() and all(encodable)
    return (HEADS if section == "finetune" else WEIGHTS).at(model=recommender).is_file()


def reads_cold_items(recommender: str) -> bool:
    """Return whether items outside the core may be in a history: the recommender reads semantic IDs."""
    return _section(recommender) in ("finetune", "generate")


def scores_cold_items(recommender: str) -> bool:
    """Return whether the recommender has scores of items outside the core."""
    return COLD_ROWS.at(model=recommender).is_file() or _section(recommender) == "generate"


def _section(recommender: str) -> str:
    """Return the section of params.yaml with the recommender's entry; empty where no section below has it."""
    content = load_params()
    return next((name for name in _LOADERS if recommender in (content.get(name) or {})), "")


def _load_language_model(recommender: str) -> EncodeHistory:
    from sidflow.core.devices import pick_device
    from sidflow.mme_sid.serve import HistoryEncoder

    encoder = HistoryEncoder(recommender, pick_device())

    def encode(history: list[int], include_cold: bool, _: int) -> HistoryFactors:
        core = np.ones(len(encoder.item_matrix), dtype=bool)
        if not include_cold:
            return HistoryFactors(encoder.factors([history]), core)
        present = encoder.cold.present
        candidates = np.concatenate([core, present])
        return HistoryFactors(encoder.factors([history], True), candidates, int((~present).sum()))

    return encode


def _load_generator(recommender: str) -> EncodeHistory:
    from sidflow.core.devices import pick_device
    from sidflow.generative.serve import GenerativeRecommender

    generator = GenerativeRecommender(recommender, pick_device())

    def encode(history: list[int], include_cold: bool, k: int) -> HistoryFactors:
        excluded = history if load_exclude_history() else ()
        without_id = int((~generator.ids.present[generator.core :]).sum()) if include_cold else 0
        return HistoryFactors(*generator.answer(history, include_cold, excluded, at_least=k), without_id)

    return encode


def _load_blend(recommender: str) -> EncodeHistory:
    from sidflow.blending.fit import weighted_sum

    blended, summary = _blended(recommender), SUMMARY.read(model=recommender)
    trained = BlendParams.model_validate(summary["params"])
    if (trained.base, trained.added) != (blended.base, blended.added):
        raise InputError(
            f"params.yaml:blend.{recommender}",
            expected=f"base {trained.base} and added {trained.added}, between which the weight was chosen",
            found=f"{blended.base} and {blended.added}",
            remedy=f"run `dvc repro blend@{recommender}`",
        )
    weight = float(summary["chosen"]["weight"])
    encoders = [load_history_encoder(name) for name in (blended.base, blended.added)]

    def encode(history: list[int], _: bool, k: int) -> HistoryFactors:
        base, added = (encoder(history, False, k) for encoder in encoders)
        items = len(base.candidates)
        first, second = (ScoreFactors.from_arrays(side.arrays, items) for side in (base, added))
        return HistoryFactors(weighted_sum(first, second, weight).arrays(), base.candidates)

    return encode


def _load_ranker(recommender: str) -> EncodeHistory:
    from sidflow.candidate_ranking.ranker import load_ranker

    ranker = load_ranker(recommender)
    core = np.ones(len(ranker.selector.relations.popularity), dtype=bool)

    def encode(history: list[int], *_: object) -> HistoryFactors:
        return HistoryFactors(ranker.answer([np.array(history, dtype=np.int32)]).arrays(), core)

    return encode


def _load_sequential_model(recommender: str) -> EncodeHistory:
    from sidflow.sequential.serve import load_recommender

    model = load_recommender(recommender)
    core = np.ones(len(model.item_matrix), dtype=bool)

    def encode(history: list[int], *_: object) -> HistoryFactors:
        return HistoryFactors(model.answer([np.array(history, dtype=np.int32)]).arrays(), core)

    return encode


def _blended(recommender: str) -> BlendParams:
    return load_section(f"blend.{recommender}", BlendParams)


_LOADERS: dict[str, Callable[[str], EncodeHistory]] = {  # by section; recommenders of all others are sequential models
    "finetune": _load_language_model,
    "generate": _load_generator,
    "blend": _load_blend,
    "train_ranker": _load_ranker,
}
