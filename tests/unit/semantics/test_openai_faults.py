"""Whatever a server does: nothing is lost, nothing that was answered is asked again, and the bytes are the same."""

import asyncio
import json
import random
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.semantics.chat_server import (
    DESCRIPTION,
    Huge,
    chat_server,
    completion,
    drip,
    hang,
    identity,
    lamp_gets,
    prompt_of,
    raw,
    reset,
    send,
    status,
)
from tests.unit.semantics.describing import ITEMS, PICTURES, file_hash, params, runtime, views
from tests.unit.semantics.kills import kill_describe
from tests.unit.semantics.test_rules import item, items_table

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics import describe, openai_writer
from sidflow.semantics.answers import KEPT_CHARACTERS, MAX_CHARACTERS
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, ReplayParams
from sidflow.semantics.server_replies import LONGEST_PAUSE, MAX_BODY
from sidflow.semantics.store import open_store
from sidflow.semantics.writers import Writer

pytestmark = pytest.mark.usefixtures("project")

MEGABYTES = 60


def counted(tokens):
    """Return a reply that claims so many tokens, as JSON."""
    return raw(completion("{}").replace(b'"prompt_tokens": 100', b'"prompt_tokens": ' + tokens))


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
    "a choice of another type": [raw(b'{"id": "1", "object": "chat.completion", "model": "m", "choices": [7]}')],
    "no choices": [raw(b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}')],
    "null": [raw(b"null")],
    "tokens beyond any integer": [counted(b"1e999"), counted(b"1" + b"0" * 30)],
    "fewer tokens than none": [counted(b"-5")],
    "more tokens than a ledger adds up": [counted(b"9223372036854775807")],
    "no number of tokens": [counted(b"null"), counted(b'"many"')],
    "deep": [raw(b"[" * 200_000), raw(b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")],
    "several": [status(500), reset, raw(b""), status(429)],
}


@pytest.fixture
def expected(tmp_path):
    """Return the hash of the artifact that a server without faults makes."""
    with chat_server() as sound:
        return file_hash(describe_items(ITEMS, PICTURES, params(), runtime(sound, tmp_path / "sound")))


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_nothing_is_lost_nothing_asked_twice_and_the_bytes_are_the_same(server, tmp_path, expected, name):
    server.faults = FAULTS[name]
    seconds = 3.0 if server.faults in ([hang], [drip]) else 300.0
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path, request_seconds=seconds))
    assert file_hash(described) == expected
    assert set(server.answered.values()) == {1}
    assert set(server.asked.values()) == {1 + len(server.faults)}


def test_the_next_try_comes_no_sooner_than_the_server_asks(server, tmp_path, expected):
    server.faults = [status(429, Retry_After="0.7"), status(503, Retry_After="0.3")]
    assert file_hash(describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))) == expected
    for first, second, third in server.asked_at.values():
        assert second - first >= 0.7 and third - second >= 0.3


def test_the_pause_that_a_server_asks_for_is_cut_at_a_minute(server, tmp_path, monkeypatch):
    pauses, sleep = [], asyncio.sleep

    async def counted(seconds):
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(openai_writer.asyncio, "sleep", counted)
    server.faults = [status(429, Retry_After="86400"), status(429, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT")]
    describe_items(ITEMS, PICTURES, params(views=("text",)), runtime(server, tmp_path))
    assert pauses == [LONGEST_PAUSE] * 6


BAD_ANSWERS = {  # text of the answer, and its failure
    "cut JSON": ('{"category": "r', "malformed"),
    "wrong schema": (json.dumps({"id": 7, "title": "mug", "price": [1, 2]}), "schema"),
    "wrong types": (json.dumps(dict.fromkeys(DESCRIPTION, 3)), "schema"),
    "huge answer": ("{" + " " * MAX_CHARACTERS + "}", "huge"),
    "nothing": ("", "empty"),
    "refusal": ("I'm sorry, I cannot help with that.", "refusal"),
    "repetition": (json.dumps(DESCRIPTION | {"summary": "red mug and " * 30}), "repetitive"),
    "echo": (json.dumps(DESCRIPTION | {"summary": "INSTRUCTIONS"}), "echo"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_is_kept_and_asked_again_once_with_the_reason(server, tmp_path, expected, name):
    text, reason = BAD_ANSWERS[name]

    def answer_badly(running, handler, body, _attempt):
        running.answered[identity(body)] += 1
        if "An earlier answer could not be used" in prompt_of(body):
            send(handler, 200, completion(running.content(body)))
        else:
            instructions = " ".join(prompt_of(body).split("\n\n")[-2].split())
            send(handler, 200, completion(text.replace("INSTRUCTIONS", instructions)))

    server.faults = [answer_badly]
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert file_hash(described) == expected
    assert set(server.asked.values()) == set(server.answered.values()) == {1}
    assert described.report["text_asked_again"] == described.report[f"text_unusable_{reason}"] == 3
    assert described.report["text_failed"] == 0 and server.asked.total() == 12
    again = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert file_hash(again) == expected and server.asked.total() == 12


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_reply_of_many_megabytes_little_is_read_and_nothing_kept(server, tmp_path, expected, packed):
    huge = Huge(MEGABYTES << 20, packed=packed)

    def answer_hugely(running, handler, body, attempt):
        if "An earlier answer could not be used" in prompt_of(body):
            running.answer(handler, body)
        else:
            huge(running, handler, body, attempt)

    server.faults = [answer_hugely]
    tracemalloc.start()
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path, concurrency=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file_hash(described) == expected
    assert set(server.asked.values()) == {1} and server.asked.total() == 12 and len(huge.sent) == 6
    assert packed or (max(huge.sent) < (MEGABYTES << 20) / 2 and peak < 10 * MAX_BODY)
    assert described.report["text_unusable_huge"] == described.report["text_asked_again"] == 3
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        kept = [response for batch in store._batches() for response in batch if response.finish_reason == "huge"]
    assert [response.text for response in kept] == [""] * 6
    assert (tmp_path / "cache" / "responses.sqlite").stat().st_size < MAX_BODY
    again = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert file_hash(again) == expected and server.asked.total() == 12


def test_of_an_errors_message_of_many_megabytes_little_is_read(server, tmp_path, expected):
    huge = Huge(MEGABYTES << 20, 500)
    server.faults = [huge]
    described = describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    assert file_hash(described) == expected and set(server.asked.values()) == {2}
    assert max(huge.sent) < (MEGABYTES << 20) / 2 and described.report["text_asked_again"] == 0


def test_of_a_text_that_is_too_long_the_beginning_is_kept_and_the_answer_is_the_same(server, tmp_path):
    server.content = lambda _: "long " * (MAX_CHARACTERS // 5 + 1)
    described = describe_items(ITEMS, PICTURES, params(max_failed_share=1.0), runtime(server, tmp_path))
    assert described.report["text_failed_huge"] == 3 and described.semantics.height == 0
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        texts = {response.text for batch in store._batches() for response in batch}
    assert texts == {"long " * (KEPT_CHARACTERS // 5)}
    again = describe_items(ITEMS, PICTURES, params(max_failed_share=1.0), runtime(server, tmp_path))
    assert again.report == described.report and server.asked.total() == 12


@pytest.mark.parametrize("identifier", ["another", 17, None, ["x"]])
def test_an_answer_belongs_to_the_request_that_it_came_back_to_whatever_id_it_has(
    server, tmp_path, expected, identifier
):
    def another_id(running, handler, body, _attempt):
        running.answered[identity(body)] += 1
        content = json.loads(completion(running.content(body))) | {"id": identifier, "model": "another"}
        send(handler, 200, json.dumps(content).encode())

    server.faults = [another_id]
    assert file_hash(describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))) == expected
    assert set(server.asked.values()) == set(server.answered.values()) == {1}


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
    server.faults = [lamp_gets(status(400))] * 9
    described = describe_items(ITEMS, PICTURES, params(max_failed_share=0.5), runtime(server, tmp_path, concurrency=1))
    assert (1, "text") not in views(described)
    assert described.report["text_failed"] == described.report["text_failed_rejected"] == 1
    with pytest.raises(InputError, match=r"text view.*1 of 3: 1 refused by the server"):
        describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))


@pytest.mark.parametrize("code", [300, 402, 405, 406, 410, 412, 415, 451])
def test_a_refusal_that_is_not_of_the_request_ends_the_run_and_is_not_kept(server, tmp_path, code):
    """Among them an empty account, which is filled later."""
    server.faults = [lamp_gets(status(code))] * 9
    settings = runtime(server, tmp_path, concurrency=1)
    with pytest.raises(InputError, match=f"status {code}"):
        describe_items(ITEMS, PICTURES, params(views=("text",), max_failed_share=1.0), settings)
    server.faults = []
    described = describe_items(ITEMS, PICTURES, params(views=("text",)), settings)
    assert described.report["text_failed"] == 0 and set(server.answered.values()) == {1}


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refusal_of_one_request_is_a_failure_of_its_item(server, tmp_path, code):
    server.faults = [lamp_gets(status(code))] * 9
    settings = runtime(server, tmp_path, concurrency=1)
    described = describe_items(ITEMS, PICTURES, params(views=("text",), max_failed_share=1.0), settings)
    assert described.report["text_failed_rejected"] == 1 and described.semantics.height == 2


HALF = "\\ud83d"  # of a surrogate pair, as JSON spells it


def test_half_a_character_in_any_part_of_a_reply_is_replaced(server, tmp_path):
    def with_half(running, handler, body, _attempt):
        running.answered[identity(body)] += 1
        content = completion(running.content(body).replace("plain", HALF), "HALF")
        send(handler, 200, content.replace(b"HALF", HALF.encode()))

    refused = json.dumps({"error": {"message": "HALF"}}).replace("HALF", HALF).encode()
    server.faults = [with_half]
    settings = runtime(server, tmp_path, concurrency=1)
    described = describe_items(ITEMS[:1], PICTURES, params(views=("text",)), settings)
    assert views(described) == {(0, "text"): "Category: Red mug. Style: ? Colours: red."}
    assert file_hash(described) and [response.finish_reason for response in stored(tmp_path)] == ["?"]

    def refuse(_running, handler, _body, _attempt):
        send(handler, 400, refused)

    server.faults = [lamp_gets(refuse)] * 9
    described = describe_items(ITEMS, PICTURES, params(views=("text",), max_failed_share=0.5), settings)
    assert described.report["text_failed_rejected"] == 1


@pytest.mark.parametrize(
    "address", ["http://localhost:port/v1", "http://[::1", "localhost:8000", "http://", "foo bar", "ftp://host/v1"]
)
def test_an_address_that_is_none_ends_the_run_before_anything_is_asked(tmp_path, address):
    settings = Runtime(cache=tmp_path / "cache", server=address)
    with pytest.raises(InputError, match=r"runtime.yaml:server: expected an address") as raised:
        describe_items(ITEMS, PICTURES, params(), settings)
    assert "\n" not in raised.value.line() and address in raised.value.line()


def stored(tmp_path):
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        return [response for batch in store._batches() for response in batch]


def test_refused_items_before_any_answer_end_no_run(server, tmp_path):
    """Of three items the first two are refused."""
    items = items_table(item(0, "Blue lamp"), item(1, "Blue lamp, large"), item(2, "Chair"))
    settings = runtime(server, tmp_path, concurrency=1)
    for run in range(2):
        server.faults = [lamp_gets(status(400))] * 9
        text = params(views=("text",), max_failed_share=1.0)
        described = describe_items(items, PICTURES, text, settings)
        assert list(views(described)) == [(2, "text")] and described.report["text_failed_rejected"] == 2
        assert sorted(response.finish_reason for response in stored(tmp_path)) == ["rejected", "rejected", "stop"]
        assert sorted(server.asked.values()) == [1, 1 + run, 1 + run]


def test_a_refused_item_that_alone_is_missing_ends_no_run(server, tmp_path):
    settings = runtime(server, tmp_path, concurrency=1)
    text = params(views=("text",), max_failed_share=1.0)
    describe_items(ITEMS[:1], PICTURES, text, settings)
    server.faults = [lamp_gets(status(400))] * 9
    described = describe_items(ITEMS[:2], PICTURES, text, settings)
    assert list(views(described)) == [(0, "text")] and described.report["text_failed_rejected"] == 1


def test_what_was_refused_is_asked_once_a_run_and_an_answer_takes_its_place(server, tmp_path, monkeypatch):
    monkeypatch.setattr(Writer, "chunk_items", 1)  # equal items in chunks of their own
    items = items_table(item(0, "Chair"), item(1, "Blue lamp"), item(2, "Blue lamp"))
    server.faults = [lamp_gets(status(413))] * 2
    settings, text = runtime(server, tmp_path), params(views=("text",), max_failed_share=1.0)
    replay = DescribeParams(
        views=("text",), max_failed_share=1.0, writer=ReplayParams(backend="replay", model="vl-7b", revision="abc")
    )
    for run in (1, 2):
        refused = describe_items(items, PICTURES, text, settings)
        assert refused.report["text_failed_rejected"] == 2 and server.asked.total() == 1 + run
        assert describe_items(items, PICTURES, replay, settings).semantics.equals(refused.semantics)
    described = describe_items(items, PICTURES, text, settings)
    assert described.report["text_failed"] == 0 and server.asked.total() == 4
    assert file_hash(describe_items(items, PICTURES, text, settings)) == file_hash(described)
    assert server.asked.total() == 4 and set(server.answered.values()) == {1}


def test_a_server_that_refuses_everything_is_not_asked_all(server, tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "MOST_REJECTIONS", 5)
    server.faults = [status(400)] * 9
    items = items_table(*(item(number, f"Thing {number}") for number in range(400)))
    with pytest.raises(InputError, match=r"nothing but rejections: status 400"):
        describe_items(items, PICTURES[:0], params(views=("text",)), runtime(server, tmp_path, concurrency=2))
    assert 5 <= server.asked.total() < 400 and stored(tmp_path) == []


@pytest.mark.parametrize("code", [400, 401, 402, 404])
def test_settings_that_the_server_refuses_end_the_run_before_anything_is_kept(server, tmp_path, code):
    server.faults = [status(code)] * 9
    with pytest.raises(InputError, match=f"status {code}"):
        describe_items(ITEMS, PICTURES, params(), runtime(server, tmp_path))
    with open_store(tmp_path / "cache" / "responses.sqlite") as store:
        assert store.size().responses == 0


def test_where_another_run_answers_first_its_answer_is_the_view(server, tmp_path):
    settings, other = runtime(server, tmp_path), DESCRIPTION | {"category": "of another run"}

    def answer_of_another_run_first(running, handler, body, _attempt):
        asked.acquire(timeout=60)  # until the other run has ended
        running.answer(handler, body)

    asked = threading.Semaphore(0)
    with chat_server() as second, ThreadPoolExecutor() as pool:
        server.faults = [answer_of_another_run_first]
        second.content = lambda _: json.dumps(other)
        one = pool.submit(describe_items, ITEMS, PICTURES, params(), settings)
        while server.asked.total() < 6:
            time.sleep(0.01)
        first = describe_items(ITEMS, PICTURES, params(), runtime(second, tmp_path))
        asked.release(6)
        described = one.result()
    assert file_hash(described) == file_hash(first) and described.report == first.report
    again = describe_items(ITEMS, PICTURES, params(), settings)
    assert file_hash(again) == file_hash(described) and server.asked.total() == 6


def test_a_kill_at_any_moment_costs_at_most_what_was_under_way(tmp_path):
    """`python -m tests.unit.semantics.kills` does so at 20 moments."""
    kills = kill_describe(tmp_path, 4, random.Random(0))
    assert kills.problems == [] and kills.killed == 4
