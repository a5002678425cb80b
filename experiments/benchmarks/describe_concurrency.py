"""How busy does `describe` keep a server? A simulated one takes 200 ms an answer.

Run: python experiments/benchmarks/describe_concurrency.py

The server runs in a process of its own and answers each request 200 ms after it has read it, however many there are.
It keeps the sum of the requests in its hands over time. Occupancy is that sum over the allowed concurrency times the
time from the first request to the last answer. Ours is `describe` with its writer `openai`, each answer in the response
store; the other side asks one item after the other, as scripts do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
from side_by_side import (
    ROOT,
    Measurement,
    benchmark_parser,
    benchmark_record,
    medians,
    peak_memory_mb,
    run_conditions,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, OpenAIParams
from sidflow.semantics.requests import DESCRIPTION_FIELDS

SECONDS = 0.2  # of an answer
GOAL = 0.95


class Server:
    """Answers chat completions after a while, and knows how many requests it had in hand at a time."""

    def __init__(self) -> None:
        self.running, self.busy, self.changed = 0, 0.0, 0.0
        self.first = self.last = 0.0
        content = json.dumps({name: "x" if field["type"] == "string" else ["x"] for name, field in
                              DESCRIPTION_FIELDS.items()})  # fmt: skip
        message = {"role": "assistant", "content": content}
        body = json.dumps({
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 90, "total_tokens": 390},
        }).encode()  # fmt: skip
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.reply += body

    def change(self, by: int) -> None:
        """Count `by` requests more in hand."""
        now = time.perf_counter()
        self.first = self.first or now
        self.busy += self.running * (now - self.changed)
        self.running, self.changed, self.last = self.running + by, now, now

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                if head.startswith(b"get"):  # the figures so far
                    figures = json.dumps({"busy": self.busy, "seconds": self.last - self.first}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(figures) + figures)
                    continue
                self.change(1)
                await asyncio.sleep(SECONDS)
                self.change(-1)
                writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def serve_until_killed(port: Any) -> None:
    async def main() -> None:
        server = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def simulated_server() -> Iterator[int]:
    """Run the server in a process of its own; yield its port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_until_killed, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()


def catalogue(count: int) -> pl.DataFrame:
    """Return items that have nothing but a title."""
    schema = ITEMS.empty().schema
    blank = {pl.String: "", pl.Boolean: True}
    empty = {name: [] if isinstance(kind, pl.List) else blank.get(kind) for name, kind in schema.items()}
    rows = [empty | {"item_id": number, "item_key": str(number), "title": f"Thing {number}"} for number in range(count)]
    return pl.DataFrame(rows, schema=schema)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Describe a catalogue of short titles, one view each."""
    from urllib.request import urlopen

    concurrency = args.concurrency if args.side == "ours" else 1
    params = DescribeParams(views=("text",), writer=OpenAIParams(backend="openai", model="m", revision="1"))
    os.chdir(ROOT)  # for the prompts
    with tempfile.TemporaryDirectory() as cache, simulated_server() as port:
        server = f"http://127.0.0.1:{port}/v1"
        runtime = Runtime.model_validate({"cache": cache, "server": server, "concurrency": concurrency})
        began = time.perf_counter()
        described = describe_items(catalogue(args.requests), IMAGES.empty(), params, runtime)
        seconds = time.perf_counter() - began
        with urlopen(f"http://127.0.0.1:{port}/") as reply:
            figures = json.loads(reply.read())
    assert described.semantics.height == args.requests
    occupancy = figures["busy"] / (concurrency * figures["seconds"])
    return {"occupancy": occupancy, "rate": args.requests / seconds, "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sides = {
        "ours": side_command(__file__, "ours", "--requests", args.requests, "--concurrency", args.concurrency),
        "loop": side_command(__file__, "loop", "--requests", args.loop_requests),
    }
    figures = medians(run_in_turn(sides, args.rounds))
    a, b = figures["ours"], figures["loop"]
    yield (
        "describe_concurrency",
        benchmark_record(
            f"`describe` against a server that takes {1000 * SECONDS:.0f} ms, {args.concurrency} requests at a time, "
            "against one after the other",
            "requests/s",
            Measurement(a["rate"], a["peak_mb"]),
            Measurement(b["rate"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"{a['occupancy']:.1%} of the allowed concurrency is in the server's hands from the first request "
            f"to the last answer (goal {GOAL:.0%}); {a['rate']:.1f} requests a second of {args.requests:,} from start "
            f"to end, each answer kept",
            command="python experiments/benchmarks/describe_concurrency.py",
            **run_conditions(args.rounds),
            occupancy=round(a["occupancy"], 4),
            concurrency=args.concurrency,
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--requests", type=int, default=3200)
    parser.add_argument("--loop-requests", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=16)
    run_side_or_all(parser, {"ours": measure, "loop": measure}, results)


if __name__ == "__main__":
    main()
