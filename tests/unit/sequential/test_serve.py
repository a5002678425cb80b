"""Query states of new histories."""

import numpy as np
import pytest
import torch
from tests.unit.sequential.cases import TABLE_ITEMS, VARIANTS, encoder_of, table

from sidflow.sequences.windows import Windows, recent_windows
from sidflow.sequential.serve import SequentialRecommender, query_states


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_a_query_state_does_not_depend_on_its_batch(name, extra):
    recommender = SequentialRecommender(encoder_of(name, extra), table())
    rng = np.random.default_rng(0)
    histories = [rng.integers(TABLE_ITEMS, size=size) for size in (3, 1, 40, 12, 0, 11, 7, 2)]
    together = recommender.encode(histories)
    alone = np.concatenate([recommender.encode([one]) for one in histories])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    recent = recommender.encode([histories[2][-12:] if name != "bert4rec" else histories[2][-11:]])
    np.testing.assert_allclose(together[2], recent[0], rtol=1e-4, atol=1e-5)
    if name != "bert4rec":
        assert not together[4].any()


def test_no_history_at_all_is_encoded():
    assert query_states(encoder_of("sasrec", {}), table(), recent_windows([], 5)).shape == (0, 16)
    nothing = Windows(torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), torch.zeros(2).long())
    assert not query_states(encoder_of("gru4rec", {}), table(), nothing).any()
