"""The committed model behind a real server, and a proxy with every fault: the views are those of a sound run."""

import json
import socket
from pathlib import Path

import pytest
from tests.unit.semantics.chat_server import Huge, chat_server, drip, hang, reset, status
from tests.unit.semantics.describing import ITEMS, PICTURES, file_hash
from tests.unit.semantics.fault_proxy import changed, cut, fault_proxy, first_time
from tests.unit.semantics.model_server import transformers_serve
from transformers.utils.import_utils import is_serve_available

from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, OpenAIParams
from sidflow.semantics.store import open_store

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "models/shop-writer"
PARAMS = DescribeParams(
    writer=OpenAIParams(backend="openai", model=str(FOLDER), revision="1", json_schema=False, max_tokens=64)
)
SHORT, LONG = 8.0, 300.0  # seconds for an answer: where a fault is to outlast them, and elsewhere
VIEWS = 6

needs_serve = pytest.mark.skipif(not is_serve_available(), reason="`transformers serve` needs fastapi and uvicorn")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The address of a server process with the committed model."""
    with transformers_serve(FOLDER, tmp_path_factory.mktemp("serve") / "log") as url:
        yield url


def described_by(url, cache, seconds=LONG):
    return describe_items(ITEMS, PICTURES, PARAMS, Runtime(cache=cache, server=url, request_seconds=seconds))


@pytest.fixture(scope="module")
def sound(real, tmp_path_factory):
    """The hash of the artifact without a proxy and without a fault."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "prompts").symlink_to(ROOT / "prompts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        described = described_by(real, folder / "cache")
        assert described.semantics.height == VIEWS  # the model's answers are valid
        return file_hash(described)


def wrong_id(content):
    content["id"] = 17


def wrong_schema(content):
    content["choices"][0]["message"]["content"] = json.dumps({"id": 7, "title": "mug", "price": [1, 2]})


TRIED_AGAIN = {  # the same question, until it is answered
    "429 with Retry-After": [status(429, Retry_After="0.3")],
    "429 without": [status(429)] * 2,
    "500": [status(500)] * 2,
    "reset": [reset] * 2,
    "slow drip": [drip],
    "hang": [hang],
    "cut JSON": [cut],
}
ASKED_AGAIN = {  # with the reason: the answer came, and is of no use
    "wrong schema": (changed(wrong_schema), "schema"),
    "huge answer": (Huge(40 << 20), "huge"),
}


def holds_to_the_end(proxy, described, sound, cache, answers):
    """Assert that the bytes are those of a sound run, that all is kept, and that a second run asks nothing."""
    assert file_hash(described) == sound
    assert set(proxy.answered.values()) == {1}  # nothing that was answered is asked twice
    with open_store(cache / "responses.sqlite") as store:
        assert store.size().responses == answers
    asked = proxy.asked.total()
    assert file_hash(described_by(proxy.url, cache)) == sound and proxy.asked.total() == asked


@needs_serve
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", TRIED_AGAIN)
def test_a_fault_between_a_real_server_and_the_writer_changes_nothing(real, sound, tmp_path, name):
    with fault_proxy(real) as proxy:
        proxy.faults = TRIED_AGAIN[name]
        seconds = SHORT if name in ("slow drip", "hang") else LONG
        described = described_by(proxy.url, tmp_path / "cache", seconds)
        assert set(proxy.asked.values()) == {1 + len(proxy.faults)}
        holds_to_the_end(proxy, described, sound, tmp_path / "cache", VIEWS)


@needs_serve
@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ASKED_AGAIN)
def test_an_answer_that_is_of_no_use_is_asked_again_and_the_bytes_are_the_same(real, sound, tmp_path, name):
    fault, reason = ASKED_AGAIN[name]
    with fault_proxy(real) as proxy:
        proxy.faults = [first_time(fault)]
        described = described_by(proxy.url, tmp_path / "cache")
        unusable = sum(described.report.get(f"{view}_unusable_{reason}", 0) for view in PARAMS.views)
        assert unusable == VIEWS and set(proxy.asked.values()) == {1} and proxy.asked.total() == 2 * VIEWS
        holds_to_the_end(proxy, described, sound, tmp_path / "cache", 2 * VIEWS)


@needs_serve
@pytest.mark.usefixtures("project")
def test_a_reply_under_another_id_belongs_to_its_request(real, sound, tmp_path):
    with fault_proxy(real) as proxy:
        proxy.faults = [changed(wrong_id)]
        described = described_by(proxy.url, tmp_path / "cache")
        assert set(proxy.asked.values()) == {1} and proxy.asked.total() == VIEWS
        holds_to_the_end(proxy, described, sound, tmp_path / "cache", VIEWS)


def test_a_reset_is_one_of_the_connection_and_no_orderly_end():
    body = json.dumps({"messages": []}).encode()
    with chat_server() as server:
        server.faults = [reset]
        port = int(server.url.split(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
