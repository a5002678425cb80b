"""A chat-completions server on loopback whose replies a test chooses: answers, refusals and faults."""

import gzip
import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DESCRIPTION = {
    "category": "", "style": "plain", "colours": ["red"], "material": "", "audience": "", "use": "", "mood": "",
    "summary": "",
}  # fmt: skip


def identity(body: dict[str, Any]) -> str:
    """Return the prompt and picture of a request."""
    return json.dumps(body["messages"])


Reply = Callable[["ChatServer", BaseHTTPRequestHandler, dict[str, Any], int], None]


def prompt_of(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"][-1]["text"]


class ChatServer:
    """Counts what was asked; `faults` reply to the first requests of each kind, then comes `answer`."""

    def __init__(self) -> None:
        self.faults: list[Reply] = []
        self.asked: Counter[str] = Counter()  # by prompt and picture
        self.asked_at: dict[str, list[float]] = {}  # seconds of a clock that nobody sets, likewise
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.running = self.most_running = 0
        self.delay = 0.0  # seconds
        self.lock = threading.Lock()
        self.url = ""

    def content(self, body: dict[str, Any]) -> str:
        prompt = prompt_of(body)
        if '"keywords"' in prompt:
            return json.dumps({"keywords": ["a", "b"]})
        title = prompt.partition("title: ")[2].partition("\n")[0]
        return json.dumps(DESCRIPTION | {"category": title or "picture"})

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self.lock:
            self.answered[identity(body)] += 1
        send(handler, 200, completion(self.content(body)))


def completion(text: str | None, reason: str = "stop") -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    ).encode()  # fmt: skip


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def chat_server(own: ChatServer | None = None) -> Iterator[ChatServer]:
    """Run a server on loopback: `own`, or a new one whose answers are made up."""
    server = own or ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                attempt = server.asked[identity(body)]
                server.asked[identity(body)] += 1
                server.asked_at.setdefault(identity(body), []).append(time.monotonic())
                server.bodies.append(body)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.running += 1
                server.most_running = max(server.most_running, server.running)
            try:
                time.sleep(server.delay)
                if attempt < len(server.faults):
                    server.faults[attempt](server, self, body, attempt)
                else:
                    server.answer(self, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with server.lock:
                    server.running -= 1

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            """Print nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def status(code: int, **headers: str) -> Reply:
    """Return a reply with an error status."""

    def reply(_server: ChatServer, handler: BaseHTTPRequestHandler, _body: dict[str, Any], _attempt: int) -> None:
        send(handler, code, json.dumps({"error": {"message": f"error {code}"}}).encode(), **headers)

    return reply


def lamp_gets(reply: Reply) -> Reply:
    """Return a reply that is `reply` to requests about the lamp, and an answer to others."""

    def reply_by_item(running: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any], attempt: int) -> None:
        if "Blue lamp" in prompt_of(body):
            reply(running, handler, body, attempt)
        else:
            running.answer(handler, body)

    return reply_by_item


def raw(content: bytes, *, announced: int | None = None) -> Reply:
    """Return a reply of status 200 with any bytes, and another length than announced."""

    def reply(_server: ChatServer, handler: BaseHTTPRequestHandler, _body: dict[str, Any], _attempt: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(announced if announced is not None else len(content)))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return reply


class Huge:
    """Replies with `size` bytes of blanks in an answer, or until the client hangs up; counts what was sent."""

    def __init__(self, size: int, code: int = 200, *, packed: bool = False) -> None:
        self.size, self.code, self.packed = size, code, packed
        self.sent: list[int] = []  # bytes of each reply

    def __call__(
        self, server: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any], _attempt: int
    ) -> None:
        start, end = completion("BLANKS").split(b"BLANKS")
        blanks = b" " * (1 << 16)
        parts = [start, *[blanks] * (self.size // len(blanks)), end]
        handler.close_connection = True
        handler.send_response(self.code)
        handler.send_header("Content-Type", "application/json")
        if self.packed:
            handler.send_header("Content-Encoding", "gzip")
            parts = [gzip.compress(b"".join(parts), compresslevel=1)]
        handler.send_header("Content-Length", str(sum(map(len, parts))))
        handler.end_headers()
        self.sent.append(0)
        place = len(self.sent) - 1
        for part in parts:
            handler.wfile.write(part)
            self.sent[place] += len(part)


def reset(_server: ChatServer, handler: BaseHTTPRequestHandler, _body: dict[str, Any], _attempt: int) -> None:
    """Reset the connection (RST) without a reply."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())  # at once: files of the handler would hold the socket


def hang(_server: ChatServer, handler: BaseHTTPRequestHandler, _body: dict[str, Any], _attempt: int) -> None:
    """Reply nothing until the client has given up."""
    handler.close_connection = True
    handler.connection.recv(1)


def drip(_server: ChatServer, handler: BaseHTTPRequestHandler, _body: dict[str, Any], _attempt: int) -> None:
    """Send a byte now and then, so that no single read times out, until the client has given up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.close_connection = True
    for _ in range(999):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)
