"""Fits a counting recommender to the split and writes its factors and summary."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sidflow.artifacts.catalog import TRUTH, core_count
from sidflow.artifacts.features import read_core_rows
from sidflow.artifacts.recommenders import FACTORS, SUMMARY, ScoreFactors, refit_metadata
from sidflow.core.errors import InputError
from sidflow.core.params import Params, load_section, validate_params
from sidflow.counting.cooccurrence import (
    ContentParams,
    CooccurrenceParams,
    choose_content,
    choose_cooccurrence,
    content_factors,
    cooccurrence_factors,
)
from sidflow.counting.ease import EaseParams, choose_ease, ease_factors
from sidflow.counting.item_knn import ItemKnnParams, choose_item_knn, item_knn_factors
from sidflow.counting.search import METRIC, Choice, CountingParams
from sidflow.counting.simple import (
    MarkovParams,
    OracleParams,
    PopularityParams,
    markov_factors,
    oracle_factors,
    popularity_factors,
)
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import Events, training_events
from sidflow.sequences.histories import Histories, load_histories_for_ranking
from sidflow.sequences.refit import fit_and_refit

FAMILY = "counting"


class Method(NamedTuple):
    """One counting recommender: its params model, its choice of a setting, and its factors."""

    params: type[Params]
    choose: Callable[[Histories, int, Any], Choice] | None
    factors: Callable[..., ScoreFactors]  # of (histories, events), where there is a choice also of the setting


METHODS = {
    "popularity": Method(PopularityParams, None, popularity_factors),
    "markov": Method(MarkovParams, None, markov_factors),
    "cooccurrence": Method(CooccurrenceParams, choose_cooccurrence, cooccurrence_factors),
    "ease": Method(EaseParams, choose_ease, ease_factors),
    "item_knn": Method(ItemKnnParams, choose_item_knn, item_knn_factors),
}


def find_method(name: str) -> Method:
    """Return the method of `METHODS`, else the one that the module `sidflow.counting.<name>` has as `METHOD`.

    Raises:
        InputError: there is neither.
    """
    if name in METHODS:
        return METHODS[name]
    module = f"sidflow.counting.{name}"
    method = getattr(import_module(module), "METHOD", None) if name.isidentifier() and find_spec(module) else None
    if not isinstance(method, Method):
        raise InputError(
            "params.yaml:train_counting",
            expected=f"one of {sorted([*METHODS, 'oracle'])}, or a module src/sidflow/counting/NAME.py with a `METHOD`",
            found=name,
            remedy="correct or remove it; docs/extending.md has an example",
        )
    return method


def params_model(section: str, model: str) -> type[Params]:
    """Return the params model of recommender `model` in `train_counting` or `train_content`.

    Raises:
        InputError: the section has no such recommender.
    """
    if section == "train_counting":
        return OracleParams if model == "oracle" else find_method(model).params
    if model != "cooccurrence_content":
        raise InputError(
            f"params.yaml:{section}", expected="cooccurrence_content", found=model, remedy="correct or remove it"
        )
    return ContentParams


def counting_entry(name: str, values: Any, where: str) -> Params:
    """Return the params of the entry `name` of `train_counting`."""
    return validate_params(values, params_model("train_counting", name), where)


def content_entry(name: str, values: Any, where: str) -> Params:
    """Return the params of the entry `name` of `train_content`."""
    return validate_params(values, params_model("train_content", name), where)


def load_counting(section: str, model: str) -> Params:
    """Return the checked params of `<section>.<model>`."""
    return load_section(f"{section}.{model}", params_model(section, model))


def fit_counting(model: str, params: Params) -> None:
    """Fit recommender `model` to the split and write its factors and summary."""
    histories, items = load_histories_for_ranking(), core_count()
    if isinstance(params, OracleParams):
        _write(model, params, Choice({}, []), oracle_factors(histories, TRUTH.read(), items), refit=None)
        return
    assert isinstance(params, CountingParams)
    if isinstance(params, ContentParams):
        rows = read_core_rows(Path(params.features), items)
        vectors = unit_rows(rows.values, rows.present)
        choice = choose_content(histories, items, params, vectors)

        def factors_of(events: Events) -> ScoreFactors:
            return content_factors(histories, events, choice.setting, vectors)
    else:
        method = find_method(model)
        choice = method.choose(histories, items, params) if method.choose else Choice({}, [])

        def factors_of(events: Events) -> ScoreFactors:
            return method.factors(histories, events, *([choice.setting] if method.choose else []))

    _write(model, params, choice, _factors(histories, items, params.refit, factors_of), params.refit)


def _factors(
    histories: Histories, items: int, refit: bool, factors_of: Callable[[Events], ScoreFactors]
) -> ScoreFactors:
    """Return factors of the training parts; with `refit` test queries are answered by a second fit."""

    def fit(training: Histories, _: None) -> ScoreFactors:
        return factors_of(training_events(training, items))

    return fit_and_refit(histories, refit, fit, answer=lambda factors: factors, choose=lambda _: None).factored


def _write(model: str, params: Params, choice: Choice, factors: ScoreFactors, refit: bool | None) -> None:
    arrays = factors.arrays()
    FACTORS.write(arrays, {"model": model, "family": FAMILY, **refit_metadata(refit)}, model=model)
    best = max((trial[METRIC] for trial in choice.trials), default=None)
    SUMMARY.write(
        {
            "name": model,
            "family": FAMILY,
            "params": params.model_dump(mode="json"),
            "chosen": choice.setting,
            METRIC: best,
            "trials": choice.trials,
            "sizes": {name: list(array.shape) for name, array in arrays.items()},
            "megabytes": sum(array.nbytes for array in arrays.values()) / 1e6,
        },
        model=model,
    )
