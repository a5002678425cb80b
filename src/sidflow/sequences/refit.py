"""A fit on the training parts and, where params ask for it, a second one on training and validation events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from sidflow.artifacts.recommenders import ScoreFactors, by_part
from sidflow.core.costs import timed_answers
from sidflow.sequences.histories import Histories

Model = TypeVar("Model")
Choice = TypeVar("Choice")


class Refitted(NamedTuple, Generic[Model, Choice]):
    """The result of one fit or of two."""

    model: Model  # of the last fit: it encodes new histories
    choice: Choice  # what the first fit hands to the second
    first: ScoreFactors  # of the first fit
    last: ScoreFactors  # of the last fit
    factored: ScoreFactors  # validation queries answered by the first fit, test queries by the last


def fit_and_refit(
    histories: Histories,
    refit: bool,
    fit: Callable[[Histories, Choice | None], Model],
    answer: Callable[[Model], ScoreFactors],
    choose: Callable[[Model], Choice],
) -> Refitted[Model, Choice]:
    """Fit a model to the training parts and, with `refit`, a second one to training and validation events.

    The second fit has no validation. It uses the choice of the first one, and scores the test queries alone.

    Args:
        histories: training parts and all queries.
        refit: whether there is a second fit.
        fit: returns a fresh model, fitted to the training parts of the histories it is given; the second argument is
            None in the first fit, and the first fit's choice in the second.
        answer: returns the two sides of the scores of all queries.
        choose: returns the choice of the first model; the model itself is freed before the
            second fit, unless the choice holds it.
    """

    def timed_answer(model: Model) -> ScoreFactors:
        with timed_answers("answer", histories.query_count):
            return answer(model)

    model = fit(histories, None)
    first, choice = timed_answer(model), choose(model)
    if not refit:
        return Refitted(model, choice, first, first, first)
    del model
    model = fit(histories.before_test(), choice)
    last = timed_answer(model)
    return Refitted(model, choice, first, last, by_part(histories.query_valid, first, last))
