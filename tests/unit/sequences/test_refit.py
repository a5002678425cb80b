"""One fit, or two: what each is fitted to, and which queries each answers."""

import numpy as np
import pytest

from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.sequences.histories import Histories
from sidflow.sequences.refit import fit_and_refit

HISTORIES = Histories(
    items=np.array([0, 1, 2, 3], dtype=np.int32),
    offsets=np.array([0, 4]),
    train_end=np.array([2]),
    query_user=np.array([0, 0]),
    query_end=np.array([2, 3]),
    query_valid=np.array([True, False]),
    targets=np.array([2, 3]),
)


def run(refit):
    """The model is the number of training events that it was fitted to; each query scores item 0 with it."""
    fits = []

    def fit(histories, choice):
        fits.append((int(histories.train_end[0]), choice))
        return fits[-1][0]

    def answer(model):
        return ScoreFactors(np.full((2, 1), model, np.float32), np.ones((1, 1), np.float32))

    return fit_and_refit(HISTORIES, refit, fit, answer, choose=lambda model: f"chosen by {model}"), fits


def test_without_refit_one_model_answers_everything():
    refitted, fits = run(refit=False)
    assert fits == [(2, None)]
    assert refitted.model == 2 and refitted.choice == "chosen by 2"
    assert refitted.factored.scores(np.arange(2)).ravel().tolist() == [2, 2]


def test_the_second_fit_sees_validation_events_and_answers_test_queries_alone():
    refitted, fits = run(refit=True)
    assert fits == [(2, None), (3, "chosen by 2")]
    assert refitted.model == 3 and refitted.choice == "chosen by 2"
    assert refitted.factored.scores(np.arange(2)).ravel().tolist() == [2, 3]
    assert (refitted.first.states[0, 0], refitted.last.states[0, 0]) == pytest.approx((2, 3))
