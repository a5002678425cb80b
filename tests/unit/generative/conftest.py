import pytest
from tests.unit.generative.shop import enter_shop_with_ids


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The folder of a small shop with IDs, as the current one."""
    enter_shop_with_ids(tmp_path, monkeypatch)
    return tmp_path
