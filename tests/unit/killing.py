"""A training with a refit that is killed in its second fit."""

import pytest
import torch

from sidflow.training.checkpoint import Checkpoint


def second_fit_resumes(run, hashes, monkeypatch):
    """Assert that `run`, killed after two steps of its second fit, goes on from there, and return both its `hashes`."""
    run()
    expected = hashes()
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    saves = []

    def save(self, snapshot, whole=Checkpoint.save):
        whole(self, snapshot)
        saves.append(("refit" in self.path.name, snapshot.values["steps"]))
        if saves.count((True, 2)) == 1 and saves[-1] == (True, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run()
    before = len(saves)
    torch.manual_seed(99)
    run()
    assert saves[before] == (True, 3)  # nothing of the first fit was done again
    return expected, hashes()
