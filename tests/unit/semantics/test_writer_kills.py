import random

import pytest
from tests.unit.semantics.writer_kills import BATCH, kill_writer


@pytest.mark.usefixtures("project")
def test_a_kill_while_a_model_writes_costs_at_most_the_batch_under_way(tmp_path):
    """`python -m tests.unit.semantics.writer_kills` does so at 20 moments."""
    kills = kill_writer(tmp_path, 3, random.Random(0))
    assert kills.problems == [] and kills.killed == 3
    assert kills.repeated <= kills.killed * BATCH
