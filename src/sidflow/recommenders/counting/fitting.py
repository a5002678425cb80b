"""From params and artifacts to a counting recommender's factors and summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sidflow.contracts import histories as histories_of
from sidflow.contracts import refits
from sidflow.contracts.artifacts.factors import FACTORS, SUMMARY
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.artifacts.truth import TRUTH
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored, by_part
from sidflow.contracts.histories import Histories
from sidflow.contracts.params import Params
from sidflow.counting.events import Events, before_test, training
from sidflow.recommenders.counting import content, cooccurrence, ease, item_knn, markov, oracle, popularity
from sidflow.recommenders.counting.params import CountingParams
from sidflow.recommenders.counting.search import METRIC, Choice

FAMILY = "counting"


class Method(NamedTuple):
    """One counting recommender: its params, how it chooses its setting, and how it makes factors of events."""

    params: type[Params]
    choose: Callable[[Histories, int, Any], Choice] | None
    factors: Callable[..., Factored]  # (histories, events) or, where there is a choice, (histories, events, setting)


COUNTED = {
    "popularity": Method(popularity.PopularityParams, None, popularity.factors),
    "markov": Method(markov.MarkovParams, None, markov.factors),
    "cooccurrence": Method(cooccurrence.CooccurrenceParams, cooccurrence.choose, cooccurrence.factors),
    "ease": Method(ease.EaseParams, ease.choose, ease.factors),
    "item_knn": Method(item_knn.ItemKnnParams, item_knn.choose, item_knn.factors),
}
INFORMED: dict[str, type[Params]] = {
    "cooccurrence_content": content.ContentParams,
    "oracle": oracle.OracleParams,
}


def known(model: str, names: dict[str, Any], section: str) -> Any:
    """Return the entry of `model`.

    Raises:
        InputError: there is none.
    """
    if model not in names:
        raise InputError(
            f"params.yaml:{section}", expected=f"one of {sorted(names)}", found=model, remedy="correct or remove it"
        )
    return names[model]


def count(model: str, params: Params) -> None:
    """Fit one of `COUNTED` and write its factors and summary."""
    method = known(model, COUNTED, "count")
    assert isinstance(params, CountingParams)
    histories, items = histories_of.load_to_rank(), core_count()
    choice = method.choose(histories, items, params) if method.choose else Choice({}, [])

    def fitted(events: Events) -> Factored:
        return method.factors(histories, events, *([choice.setting] if method.choose else []))

    _write(model, params, choice, _answer(histories, items, params.refit, fitted), params.refit)


def informed(model: str, params: Params) -> None:
    """Fit one of `INFORMED` and write its factors and summary."""
    known(model, INFORMED, "informed")
    histories, items = histories_of.load_to_rank(), core_count()
    if isinstance(params, content.ContentParams):
        vectors = content.directions(Path(params.features), items)
        choice = content.choose(histories, items, params, vectors)

        def fitted(events: Events) -> Factored:
            return content.factors(histories, events, choice.setting, vectors)

        _write(model, params, choice, _answer(histories, items, params.refit, fitted), params.refit)
        return
    assert isinstance(params, oracle.OracleParams)
    _write(model, params, Choice({}, []), oracle.factors(histories, TRUTH.read(), items), refit=None)


def _answer(histories: Histories, items: int, refit: bool, fitted: Callable[[Events], Factored]) -> Factored:
    """Return factors of the training fit, and with `refit` of the wider one for test queries."""
    first = fitted(training(histories, items))
    if not refit:
        return first
    return by_part(histories.query_valid, first, fitted(before_test(histories, items)))


def _write(model: str, params: Params, choice: Choice, factored: Factored, refit: bool | None) -> None:
    arrays = factored.arrays()
    FACTORS.write(arrays, {"model": model, "family": FAMILY, **refits.fact(refit)}, model=model)
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
