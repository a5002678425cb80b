"""No key and no token of a server gets into what a run leaves: artifacts, locks, logs, error lines, response store."""

import pytest
from tests.unit.semantics.chat_server import chat_server, status

pytestmark = pytest.mark.pipeline
CANARIES = {"key": "sk-canary-0451", "user": "canaryuser77", "password": "canarypass88", "token": "canarytoken99"}


@pytest.fixture
def project(finished, tmp_path):
    """A small DAG whose views are written by a server; its caches are its own."""
    project = finished.copy(tmp_path / "copy")
    project.environment["SIDFLOW_CACHE"] = str(tmp_path / "cache")
    project.run("sidflow", "recommenders", "popularity", "cooccurrence_content")
    writer = {"backend": "openai", "model": "m", "revision": "r", "max_sentences": None, "max_characters": None}
    writer |= {"colours": None, "min_share": None, "side": None, "dtype": None}
    project.set_params({"describe": {"views": ["text"], "writer": writer}})
    return project


def secret_environment(server):
    host = server.url.removeprefix("http://")
    return {
        "OPENAI_API_KEY": CANARIES["key"],
        "SIDFLOW_SERVER": f"http://{CANARIES['user']}:{CANARIES['password']}@{host}?token={CANARIES['token']}",
    }


def assert_no_canary(text, where):
    for name, canary in CANARIES.items():
        assert canary not in text, (name, where)


def test_a_run_leaves_no_secret(project, tmp_path):
    with chat_server() as server:
        environment = secret_environment(server)
        output = project.run("dvc", "repro", "-v", **environment)
        assert "Running stage 'describe'" in output and "Running stage 'report'" in output
        assert server.headers, "the server was asked"
        assert any(CANARIES["key"] in value or "Basic" in value for value in server.headers[0].values()), "with the key"
        doctor = project.run("sidflow", "doctor", check=False, **environment)
        assert "runtime server" in doctor
        server.faults = [status(401)] * 100
        project.set_params({"describe": {"writer": {"revision": "r2"}}})
        refused = project.run("dvc", "repro", "describe", check=False, **environment)
        assert "Remedy: set OPENAI_API_KEY" in refused
    project.set_params({"describe": {"writer": {"revision": "r3"}}})
    gone = project.run("dvc", "repro", "describe", check=False, **environment)
    assert "expected" in gone and "Remedy" in gone
    for name, text in {"output": output, "doctor": doctor, "refused": refused, "gone": gone}.items():
        assert_no_canary(text, name)
    paths = [path for folder in (project.folder, tmp_path / "cache") for path in folder.rglob("*") if path.is_file()]
    assert any("responses" in path.name for path in paths)
    for path in paths:
        content = path.read_bytes()
        for name, canary in CANARIES.items():
            assert canary.encode() not in content, (name, path)
