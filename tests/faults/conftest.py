"""The tiny project for faults."""

import pytest
from tests.faults.runs import TARGET, reference_of, stages_of


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """A copy of the tiny project, with a cache of DVC of its own that holds no more than `TARGET` needs."""
    project = finished.copy(tmp_path_factory.mktemp("faults") / "copy")
    project.environment["SIDFLOW_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    (project.folder / ".dvc/config.local").unlink()
    (project.folder / "dvc.lock").unlink()
    project.repro(TARGET)
    return project


@pytest.fixture(scope="module")
def references(project):
    """What each stage that `TARGET` needs has written, by the stage's name."""
    return {stage.name: reference_of(project, stage) for stage in stages_of(project)}
