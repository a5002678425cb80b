"""A short version of `python -m tests.faults`: two stages of a tiny catalogue, and `dvc repro` of them."""

import random
from pathlib import Path

import pytest
from tests.faults.kills import Moment, kill_repro, kill_stage
from tests.faults.limits import cut_checkpoint, limit_stage
from tests.faults.runs import kill_when, printed, reference_of, remove_outs, stages_of, start
from tests.pipeline.project import Project

pytestmark = pytest.mark.pipeline
TARGET = "train_sequential@gru4rec"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project.create(tmp_path_factory.mktemp("faults"), tmp_path_factory.mktemp("cache"))
    project.repro(TARGET)
    return project


@pytest.fixture(scope="module")
def references(project):
    return {stage.name: reference_of(project, stage) for stage in stages_of(project, 0)}


@pytest.mark.parametrize(
    ("name", "moment"),
    [("split", Moment(None, 1)), (TARGET, Moment(None, 2)), (TARGET, Moment(None, 6)), (TARGET, Moment(0.6))],
    ids=str,
)
def test_a_killed_stage_leaves_nothing_half_and_ends_in_the_same_bytes(project, references, name, moment):
    assert kill_stage(project, references[name], moment) == []


@pytest.mark.parametrize("name", ["split", TARGET])
def test_a_failing_write_is_one_line_and_loses_nothing(project, references, name):
    assert limit_stage(project, references[name], random.Random(0)) == []


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
