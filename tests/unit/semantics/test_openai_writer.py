import base64
import io
import json

import polars as pl
import pytest
from PIL import Image
from tests.unit.semantics.chat_server import DESCRIPTION, lamp_gets, prompt_of, status
from tests.unit.semantics.describing import ITEMS, PICTURES, file_hash, params, runtime, views
from tests.unit.semantics.test_rules import item, items_table

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.features import SEMANTICS
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics import openai_writer
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, ReplayParams
from sidflow.semantics.requests import PROMPTS

pytestmark = pytest.mark.usefixtures("project")


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


def test_answers_that_no_schema_holds_are_kept_apart(server, tmp_path):
    held = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    server.content = lambda _: json.dumps(DESCRIPTION | {"category": "free"})
    free = describe_items(ITEMS, PICTURES, params(writer={"json_schema": False}), runtime(server, tmp_path))
    assert server.asked.total() == 12 and not any("response_format" in body for body in server.bodies[6:])
    assert file_hash(free) != file_hash(held)
    offline = Runtime(cache=tmp_path / "cache")
    for described, json_schema in ((held, True), (free, False)):
        replay = ReplayParams(backend="replay", model="vl-7b", revision="abc", json_schema=json_schema)
        again = describe_items(ITEMS, PICTURES, DescribeParams(writer=replay), offline)
        assert file_hash(again) == file_hash(described)


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


def test_a_spent_budget_stops_the_run_and_a_raised_one_goes_on(server, tmp_path):
    limits = runtime(server, tmp_path, concurrency=1, token_budget=240)
    with pytest.raises(InputError, match=r"token_budget.*240 tokens of 240 are spent on vl-7b@abc"):
        describe_items(ITEMS, PICTURES, params(), limits)
    assert server.asked.total() == 2
    raised = runtime(server, tmp_path, concurrency=1, cost_budget=0.00035, input_price=1.0)
    with pytest.raises(InputError, match=r"cost_budget"):
        describe_items(ITEMS, PICTURES, params(), raised)
    assert server.asked.total() == 4
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert len(views(described)) == 6
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize(
    "limits", [{"token_budget": 720}, {"cost_budget": 0.0008, "input_price": 1.0, "output_price": 2.0}], ids=str
)
def test_a_budget_is_that_of_all_runs_with_a_model_and_revision(server, tmp_path, limits):
    first = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))  # 6 answers, 600 and 120 tokens
    tight = runtime(server, tmp_path, **limits)
    with pytest.raises(InputError, match=next(iter(limits))):
        describe_items(pl.concat([ITEMS, items_table(item(4, "Desk"))]), PICTURES, params(), tight)
    assert server.asked.total() == 6  # nothing was asked
    assert file_hash(describe_items(ITEMS, PICTURES, params(), tight)) == file_hash(first)  # nothing is missing
    other = params(views=("image",)).model_copy(
        update={"writer": params().writer.model_copy(update={"revision": "def"})}
    )
    assert describe_items(ITEMS, PICTURES, other, tight).semantics.height == 2


def test_a_spent_budget_asks_nothing_that_was_refused(server, tmp_path):
    server.faults = [lamp_gets(status(400))] * 9
    whole = params(views=("text",), max_failed_share=1.0)
    refused = describe_items(ITEMS, PICTURES, whole, runtime(server, tmp_path))
    assert refused.report["text_failed_rejected"] == 1 and server.asked.total() == 3
    spent = runtime(server, tmp_path, token_budget=1)
    assert file_hash(describe_items(ITEMS, PICTURES, whole, spent)) == file_hash(refused)
    assert server.asked.total() == 3
    replay = DescribeParams(
        views=("text",), max_failed_share=1.0, writer=ReplayParams(backend="replay", model="vl-7b", revision="abc")
    )
    assert file_hash(describe_items(ITEMS, PICTURES, replay, spent)) == file_hash(refused)
    with pytest.raises(InputError, match="response store"):
        describe_items(items_table(item(0, "Desk")), PICTURES, replay, spent)


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
