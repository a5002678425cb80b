import math

import pytest
import torch

from sidflow.sequences.negatives import NegativeParams, NegativeSampler

COUNTS = torch.tensor([0, 3, 15])


def test_they_are_drawn_by_their_counts_to_a_power():
    torch.manual_seed(0)
    for power, chances in ((0.0, [1 / 3] * 3), (0.5, [1 / 7, 2 / 7, 4 / 7]), (1.0, [1 / 21, 4 / 21, 16 / 21])):
        negatives = NegativeSampler(NegativeParams(negatives=20_000, negatives_power=power), COUNTS)
        shares = torch.bincount(negatives.sample(), minlength=3) / 20_000
        assert shares.tolist() == pytest.approx(chances, abs=0.02)


def test_the_correction_is_how_often_each_was_to_be_expected():
    negatives = NegativeSampler(NegativeParams(negatives=14, negatives_power=0.5, logq=True), COUNTS)
    found = negatives.log_expected(torch.tensor([2, 0] * 7))
    assert found is not None and found.tolist() == pytest.approx([math.log(8), math.log(2)] * 7)
    assert NegativeSampler(NegativeParams(), COUNTS).log_expected(torch.tensor([1])) is None


def test_nothing_of_them_is_saved_with_a_model():
    assert NegativeSampler(NegativeParams(), COUNTS).state_dict() == {}
