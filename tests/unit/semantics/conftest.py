import pytest
from tests.unit.semantics.chat_server import chat_server

from sidflow.semantics import server_replies
from sidflow.semantics.requests import PROMPTS


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Work in a folder with the repository's prompts, and retry at once."""
    repository = PROMPTS.resolve()
    monkeypatch.chdir(tmp_path)
    PROMPTS.symlink_to(repository)
    monkeypatch.setattr(server_replies, "FIRST_PAUSE", 0.01)


@pytest.fixture
def server():
    with chat_server() as running:
        yield running
