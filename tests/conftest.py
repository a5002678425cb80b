"""Fixtures that every test may use."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


# How long an example takes, or its making, depends on what else the machine does.
settings.register_profile("sidflow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Of a planted fault it is enough to know that a test fails: no search for a smaller example.
settings.register_profile(
    "mutants",
    settings.get_profile("sidflow"),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "sidflow"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test meets another's checkpoints, or the user's runtime settings."""
    for name in [name for name in os.environ if name.startswith("SIDFLOW_") and name != "SIDFLOW_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("sidflow.core.files._touched", {"reads": set(), "writes": set(), "params": set()})


def pytest_terminal_summary(terminalreporter):
    """Say how many tests were skipped for want of trained models."""
    skipped = sum("pretrained" in report.keywords for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(
            f"{skipped} tests skipped for want of trained models; `make pretrained` installs them"
        )


@pytest.fixture(scope="session")
def data_folder():
    """Return the folder of real data, or skip."""
    folder = os.environ.get("SIDFLOW_DATA")
    if not folder:
        pytest.skip("SIDFLOW_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def warm():
    """Yield the process that has the libraries of the stages loaded; its socket's path must be short."""
    from tests.pipeline.warm import Warm

    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        started = Warm(Path(folder) / "w")
        yield started
        started.close()


@pytest.fixture(scope="session")
def pipeline_cache(tmp_path_factory):
    """Return the cache folder of the tiny project, which holds its trace, too."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, pipeline_cache, warm):
    """A tiny project whose DAG has run once, traced, and been committed; tests leave it unchanged."""
    from tests.pipeline.project import Project

    project = Project.create(tmp_path_factory.mktemp("project"), pipeline_cache, warm)
    stages = project.repro(SIDFLOW_TRACE=str(pipeline_cache / "trace"))
    assert stages == set(project.lock())
    project.commit("results")
    return project
