"""A proxy on loopback in front of a real chat-completions server: it passes requests on, and faults on the way back."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.unit.semantics.chat_server import ChatServer, Reply, chat_server, identity, prompt_of, raw, send

NOTE = "\n\nAn earlier answer could not be used"  # how a question ends that is asked once more


class FaultProxy(ChatServer):
    """Has the real server answer what no fault replies to.

    A question that is asked once more is passed on without its note: what a model of a million weights writes to the
    note is other than before, and the bytes of a run with unusable answers are compared with those of one without.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self.upstream = upstream

    def passed_on(self, body: dict[str, Any]) -> bytes:
        """Return the real server's reply."""
        question = json.loads(json.dumps(body))
        words = question["messages"][0]["content"][-1]
        words["text"] = words["text"].partition(NOTE)[0]
        request = urllib.request.Request(
            f"{self.upstream}/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as reply:
            return reply.read()

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.send_answer(handler, body, self.passed_on(body))

    def send_answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], content: bytes) -> None:
        """Send a whole reply, and count it."""
        with self.lock:
            self.answered[identity(body)] += 1
        send(handler, 200, content)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of the server at `upstream`, an address that ends in /v1."""
    proxy = FaultProxy(upstream)
    with chat_server(proxy):
        yield proxy


def cut(proxy: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any], attempt: int) -> None:
    """Send the first half of the real reply as if it were all."""
    assert isinstance(proxy, FaultProxy)
    content = proxy.passed_on(body)
    raw(content[: len(content) // 2])(proxy, handler, body, attempt)


def changed(change: Callable[[dict[str, Any]], None]) -> Reply:
    """Return a reply that is the real one with something changed in its JSON."""

    def reply(proxy: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any], _attempt: int) -> None:
        assert isinstance(proxy, FaultProxy)
        content = json.loads(proxy.passed_on(body))
        change(content)
        proxy.send_answer(handler, body, json.dumps(content).encode())

    return reply


def first_time(fault: Reply) -> Reply:
    """Return a reply with `fault` to a question that is asked for the first time, and without to one with a note."""

    def reply(proxy: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any], attempt: int) -> None:
        if NOTE in prompt_of(body):
            proxy.answer(handler, body)
        else:
            fault(proxy, handler, body, attempt)

    return reply
