import pytest
from tests.unit.sequential.cases import enter_shop


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The folder of a small shop, as the current one."""
    enter_shop(tmp_path, monkeypatch)
    return tmp_path
