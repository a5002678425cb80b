import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    return tmp_path
