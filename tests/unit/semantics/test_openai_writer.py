import base64
import hashlib
import io
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
from PIL import Image
from tests.unit.semantics.chat_server import (
    chat_server,
    completion,
    drip,
    hang,
    identity,
    prompt_of,
    raw,
    reset,
    status,
)
from tests.unit.semantics.test_rules import BLUE, RED, images_table, item, items_table

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.features import SEMANTICS
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics import openai_writer
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, OpenAIParams, ReplayParams
from sidflow.semantics.requests import PROMPTS
from sidflow.semantics.store import open_store


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Work in a folder with the repository's prompts, and retry at once."""
    repository = PROMPTS.resolve()
    monkeypatch.chdir(tmp_path)
    PROMPTS.symlink_to(repository)
    monkeypatch.setattr(openai_writer, "FIRST_PAUSE", 0.01)


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


def params(**changes):
    writer = OpenAIParams(backend="openai", model="vl-7b", revision="abc", **changes.pop("writer", {}))
    return DescribeParams(writer=writer, **changes)


def runtime(server, tmp_path, **changes):
    return Runtime(cache=tmp_path / "cache", server=server.url, request_seconds=1.0, **changes)


ITEMS = items_table(item(0, "Red mug", "Holds tea."), item(1, "Blue lamp"), item(2), item(3, "Chair"))
PICTURES = images_table(i0=RED, i2=BLUE)


def views(described):
    return {(row["item_id"], row["view"]): row["text"] for row in described.semantics.iter_rows(named=True)}


def file_hash(described):
    SEMANTICS.write(described.semantics)
    return hashlib.sha256((SEMANTICS.at()).read_bytes()).hexdigest()


def test_every_view_that_an_item_allows_is_asked_once(server, tmp_path):
    described = describe_items(
        ITEMS, PICTURES, params(views=("text", "image", "joint", "keywords")), runtime(server, tmp_path)
    )
    assert views(described) == {
        (0, "image"): "Category: picture. Style: plain. Colours: red.",
        (0, "joint"): "Category: Red mug. Style: plain. Colours: red.",
        (0, "keywords"): "a, b",
        (0, "text"): "Category: Red mug. Style: plain. Colours: red.",
        (1, "keywords"): "a, b",
        (1, "text"): "Category: Blue lamp. Style: plain. Colours: red.",
        (2, "image"): "Category: picture. Style: plain. Colours: red.",
        (3, "keywords"): "a, b",
        (3, "text"): "Category: Chair. Style: plain. Colours: red.",
    }
    assert described.semantics["writer"].unique().to_list() == ["vl-7b@abc"]
    assert described.semantics["by_mllm"].all()
    assert described.report["text_failed"] == 0 and described.report["input_tokens"] == 900
    pictures = [body for body in server.bodies if len(body["messages"][0]["content"]) == 2]
    assert len(pictures) == 3  # image and joint of 0, image of 2
    assert all(body["temperature"] == 0 and body["response_format"]["json_schema"]["strict"] for body in server.bodies)


def test_a_second_run_asks_nothing_and_a_new_item_costs_only_itself(server, tmp_path):
    first = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    asked = server.asked.total()
    again = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert server.asked.total() == asked
    assert file_hash(first) == file_hash(again)
    more = pl.concat([ITEMS, items_table(item(4, "Desk"))])
    describe_items(more, PICTURES, params(), runtime(server, tmp_path))
    assert server.asked.total() == asked + 1
    assert "Desk" in prompt_of(server.bodies[-1])


def test_another_prompt_asks_only_its_view_again(server, tmp_path):
    describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    before = server.asked.total()
    source = PROMPTS.resolve()
    PROMPTS.unlink()
    PROMPTS.mkdir()
    for file in source.glob("*.md"):
        (PROMPTS / file.name).write_bytes(file.read_bytes())
    (PROMPTS / "image-2.md").write_text("Say what the picture shows.")
    prompts = params().writer.prompts | {"image": "image-2"}
    describe_items(ITEMS, PICTURES, params(writer={"prompts": prompts}), runtime(server, tmp_path))
    new = server.bodies[before:]
    assert len(new) == 2
    assert all(prompt_of(body).startswith("Say what the picture shows.") for body in new)


def test_replay_needs_no_server_and_names_what_is_missing(server, tmp_path):
    first = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    offline = Runtime(cache=tmp_path / "cache")
    replay = DescribeParams(writer=ReplayParams(backend="replay", model="vl-7b", revision="abc"))
    assert file_hash(describe_items(ITEMS, PICTURES, replay, offline)) == file_hash(first)
    other = DescribeParams(writer=ReplayParams(backend="replay", model="vl-7b", revision="def"))
    with pytest.raises(InputError, match=r"6 affected.*example 0"):
        describe_items(ITEMS, PICTURES, other, offline)


FAULTS = {
    "429 with Retry-After": [status(429, Retry_After="0")],
    "429 without": [status(429)] * 3,
    "Retry-After that is no number": [status(503, Retry_After="soon")],
    "500": [status(500)] * 4,
    "reset": [reset, reset],
    "slow drip": [drip],
    "hang": [hang],
    "cut JSON": [raw(completion("{}")[:40])],
    "fewer bytes than announced": [raw(b'{"id":', announced=500)],
    "no JSON": [raw(b"<html>gateway</html>")],
    "another JSON": [raw(b'{"detail": "no"}')],
    "no choices": [raw(b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}')],
    "null": [raw(b"null")],
    "several": [status(500), reset, raw(b""), status(429)],
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_nothing_is_lost_nothing_asked_twice_and_the_bytes_are_the_same(server, tmp_path, name):
    with chat_server() as sound:
        expected = file_hash(describe_items(ITEMS, PICTURES, params(), runtime(sound, tmp_path / "sound")))
    server.faults = FAULTS[name]
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert file_hash(described) == expected
    assert set(server.answered.values()) == {1}
    assert set(server.asked.values()) == {1 + len(server.faults)}


def test_a_server_that_stays_broken_ends_in_one_line_and_what_was_answered_is_kept(server, tmp_path):
    broken = set()

    def fail_for_the_lamp(running, handler, body, attempt):
        if "Blue lamp" in prompt_of(body):
            broken.add(identity(body))
            status(500)(running, handler, body, attempt)
        else:
            running.answer(handler, body)

    server.faults = [fail_for_the_lamp] * openai_writer.TRIES
    with pytest.raises(InputError, match=r"7 tries.*status 500.*what was answered is kept"):
        describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path, concurrency=8))
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        assert store.size().responses == 5
    server.faults = []
    describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert all(count == 1 for request, count in server.answered.items() if request not in broken)


def test_a_refused_request_costs_no_other_item(server, tmp_path):
    describe_items(ITEMS[:1], PICTURES, params(views=("text",)), runtime(server, tmp_path))

    def refuse_the_lamp(running, handler, body, attempt):
        if "Blue lamp" in prompt_of(body):
            status(400)(running, handler, body, attempt)
        else:
            running.answer(handler, body)

    server.faults = [refuse_the_lamp] * 9
    described = describe_items(ITEMS, PICTURES, params(max_failed_share=0.5), runtime(server, tmp_path, concurrency=1))
    assert (1, "text") not in views(described)
    assert described.report["text_failed"] == described.report["text_failed_rejected"] == 1
    with pytest.raises(InputError, match=r"text view.*1 of 3: 1 refused by the server"):
        describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))


@pytest.mark.parametrize("code", [400, 401, 404])
def test_settings_that_the_server_refuses_end_the_run_before_anything_is_kept(server, tmp_path, code):
    server.faults = [status(code)] * 9
    with pytest.raises(InputError, match=f"status {code}"):
        describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        assert store.size().responses == 0


def test_an_unusable_answer_is_asked_again_with_the_reason_then_recorded_as_a_failure(server, tmp_path):
    def useless(running, handler, body, _attempt):
        if "Chair" in prompt_of(body):
            running.content = lambda _: "no json"
        running.answer(handler, body)
        running.__dict__.pop("content", None)

    server.faults = [useless]
    described = describe_items(ITEMS, PICTURES, params(max_failed_share=1.0), runtime(server, tmp_path, concurrency=1))
    asked = [prompt_of(body) for body in server.bodies if "Chair" in prompt_of(body)]
    assert len(asked) == 2
    assert asked[1].startswith(asked[0]) and "no JSON object" in asked[1]
    assert described.report["text_failed_malformed"] == 1 and described.report["text_asked_again"] == 1
    assert (3, "text") not in views(described)


def test_a_spent_budget_stops_the_run_and_the_next_goes_on(server, tmp_path):
    limits = runtime(server, tmp_path, concurrency=1, token_budget=240)
    with pytest.raises(InputError, match=r"token_budget.*240 tokens of 240"):
        describe_items(ITEMS, PICTURES, params(), limits)
    assert server.asked.total() == 2
    costly = runtime(server, tmp_path, concurrency=1, cost_budget=0.0001, input_price=1.0)
    with pytest.raises(InputError, match="cost_budget"):
        describe_items(ITEMS, PICTURES, params(), costly)
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert len(views(described)) == 6
    assert set(server.asked.values()) == {1}


def test_concurrency_is_bounded_and_used(server, tmp_path):
    server.delay = 0.05
    many = items_table(*(item(number, f"Thing {number}") for number in range(40)))
    describe_items(many, IMAGES.empty(), params(views=("text",)), runtime(server, tmp_path, concurrency=5))
    assert server.most_running == 5


def test_the_key_comes_from_the_environment_and_is_kept_nowhere(server, tmp_path, monkeypatch, capsys):
    secret = "sk-very-secret-key"
    monkeypatch.setenv(openai_writer.KEY_VARIABLE, secret)
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert server.headers[0]["authorization"] == f"Bearer {secret}"
    server.faults = [status(401)] * 9
    with pytest.raises(InputError) as refused:
        describe_items(items_table(item(0, "New")), PICTURES, params(), runtime(server, tmp_path))
    SEMANTICS.write(described.semantics)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in written
    assert secret not in refused.value.line() + capsys.readouterr().out


def test_large_pictures_are_shrunk(server, tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((1200, 600), 90).convert("RGB").save(buffer, "JPEG")
    pictures = pl.DataFrame([(0, buffer.getvalue(), 1200, 600)], schema=IMAGES.empty().schema, orient="row")
    describe_items(ITEMS, pictures, params(views=("image",), writer={"picture_side": 100}), runtime(server, tmp_path))
    url = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as sent:
        assert sent.size == (100, 50)


KILLED = """
import sys
from pathlib import Path
from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items
from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.semantics.params import DescribeParams, OpenAIParams
params = DescribeParams(views=("text",), writer=OpenAIParams(backend="openai", model="vl-7b", revision="abc"))
runtime = Runtime(cache=Path("cache"), server=sys.argv[1], concurrency=4)
describe_items(ITEMS.read(), IMAGES.empty(), params, runtime)
"""


def test_a_kill_at_any_moment_costs_at_most_what_was_under_way(server, tmp_path):
    many = items_table(*(item(number, f"Thing {number}") for number in range(60)))
    ITEMS_TABLE.write(many)
    server.delay = 0.05
    command = [sys.executable, "-c", KILLED, server.url]
    kills = 0
    for wait in (0.0, 0.05, 0.15, 0.3):
        process = subprocess.Popen(command, env=os.environ)
        answered = server.answered.total()
        deadline = time.monotonic() + 60
        while server.answered.total() == answered and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    described = describe_items(many, IMAGES.empty(), params(views=("text",)), runtime(server, tmp_path))
    assert described.semantics.height == 60
    assert kills > 0
    repeated = server.asked.total() - 60
    assert repeated <= kills * 2 * 4  # under way, or answered and not yet handed over
