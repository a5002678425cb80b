import pytest
from tests.unit.sequential.cases import write_shop


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The folder of a small shop, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setattr("sidflow.core.files._touched", {"reads": set(), "writes": set(), "params": set()})
    write_shop()
    return tmp_path
