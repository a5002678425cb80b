"""A short version of `python -m tests.faults`: two stages of a tiny catalogue, and `dvc repro` of them."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.kills import Moment, kill_repro, kill_stage
from tests.faults.limits import cut_checkpoint
from tests.faults.runs import TARGET, kill_when, printed, reference_of, remove_outs, start
from tests.pipeline.project import ROOT

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize(
    ("name", "moment"),
    [("split", Moment(None, 1)), (TARGET, Moment(None, 2)), (TARGET, Moment(None, 6)), (TARGET, Moment(0.6))],
    ids=str,
)
def test_a_killed_stage_leaves_nothing_half_and_ends_in_the_same_bytes(project, references, name, moment):
    assert kill_stage(project, references[name], moment) == []


def test_a_full_disk_is_one_line_and_loses_nothing(finished):
    """The script itself, as it is typed, on two stages; a full disk needs a mount namespace of its own."""
    command = (sys.executable, "-m", "tests.faults", "--finished", finished.folder, "--moments", "1", "--writes", "2")
    done = subprocess.run(
        (*command, "--stages", "split", TARGET), cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(("src", os.environ.get("PYTHONPATH", "")))},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [f"{name}: 1 kills, 2 failing writes, 0 lost" for name in ("split", TARGET)]
    assert done.stdout.splitlines() == [*lines, "6 moments tried, 0 results lost"]


def test_a_cut_checkpoint_is_said_and_the_training_starts_afresh(project, references):
    stage = references[TARGET].stage
    remove_outs(project.folder, stage.outs)
    checkpoints = []

    def has_saved(_):
        folder = Path(project.environment["SIDFLOW_CACHE"]) / "checkpoints"
        checkpoints[:] = folder.glob("*.safetensors")
        return bool(checkpoints)

    process = start(project, stage.command, SIDFLOW_CHECKPOINT_SECONDS="0.001")
    assert kill_when(project, process, has_saved)
    assert cut_checkpoint(project) == 1
    again = start(project, stage.command)
    assert again.wait() == 0
    assert "is damaged; the training starts afresh" in printed(project)
    assert reference_of(project, stage) == references[TARGET]


def test_a_killed_repro_goes_on_and_no_lock_stops_it(project):
    killed, problems, _ = kill_repro(project, 2, random.Random(1), 4.0, (TARGET,))
    assert (killed, problems) == (2, [])
