"""The figures that a plain windowed co-occurrence is known to reach, and that choosing settings must not lose."""

import json

import numpy as np
import pytest
from tests.unit.counting.cases import leave_one_out

from sidflow.counting.cooccurrence import cooccurrence_factors
from sidflow.counting.search import mean_ndcg, sparse_ranks
from sidflow.counting.simple import markov_factors
from sidflow.sequences.cooccurrence import training_events

PLAIN = {"window": 5, "decay": 1.0, "last": 5, "recency": 1.0, "backward": 0.0, "damping": 0.0}


@pytest.fixture(scope="module")
def beauty(data_folder):
    sequences = json.loads((data_folder / "amazon-beauty/Beauty.inter.json").read_text()).values()
    histories = leave_one_out([np.array(sequence) for sequence in sequences])
    return histories, int(histories.items.max()) + 1


def on_test(histories, items, factors):
    test = np.flatnonzero(~histories.query_valid)
    scores = factors.evidence[test] @ factors.relation
    ranks = sparse_ranks(scores, factors.matrix[:, 0], histories.seen(items, test), histories.targets[test])
    return (ranks <= 10).mean(), mean_ndcg(ranks)


@pytest.mark.realdata
def test_markov_on_amazon_beauty(beauty):
    histories, items = beauty
    reached = on_test(histories, items, markov_factors(histories, training_events(histories, items)))
    assert reached == pytest.approx((0.0668, 0.0439), abs=0.0005)


@pytest.mark.realdata
@pytest.mark.parametrize(("refit", "expected"), [(False, (0.0819, 0.0506)), (True, (0.0936, 0.0582))])
def test_plain_cooccurrence_on_amazon_beauty(beauty, refit, expected):
    histories, items = beauty
    events = training_events(histories.before_test() if refit else histories, items)
    reached = on_test(histories, items, cooccurrence_factors(histories, events, PLAIN))
    assert reached == pytest.approx(expected, abs=0.0005)
