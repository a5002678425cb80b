"""Fixtures that every test may use."""

import os
import sys
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


@pytest.fixture(scope="session")
def data_folder():
    """Return the folder of real data, or skip."""
    folder = os.environ.get("SIDFLOW_DATA")
    if not folder:
        pytest.skip("SIDFLOW_DATA is not set")
    return Path(folder)
