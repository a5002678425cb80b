"""`kill -9` of `describe` at random moments. Run: python -m tests.unit.semantics.kills --help."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.unit.semantics.chat_server import ChatServer, chat_server, prompt_of
from tests.unit.semantics.test_rules import item, items_table

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.features import SEMANTICS
from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items
from sidflow.semantics.openai_writer import BATCH_SECONDS
from sidflow.semantics.params import DescribeParams, OpenAIParams
from sidflow.semantics.requests import PROMPTS
from sidflow.semantics.store import open_store

ROOT = Path(__file__).resolve().parents[3]
CONCURRENCY = 4
ANSWER_SECONDS = 0.03
PARAMS = DescribeParams(views=("text",), writer=OpenAIParams(backend="openai", model="vl-7b", revision="abc"))
STAGE = """
import sys
from pathlib import Path
from tests.unit.semantics.kills import describe
describe(Path(sys.argv[1]), sys.argv[2])
"""


class Kills(NamedTuple):
    """What became of `describe` that was killed again and again."""

    killed: int
    repeated: int  # requests that were asked once more: under way, or answered and not yet handed over
    problems: list[str]


def describe(cache: Path, url: str) -> bytes:
    """Describe the catalogue in this folder through a server, and return the artifact's bytes."""
    runtime = Runtime(cache=cache, server=url, concurrency=CONCURRENCY)
    SEMANTICS.write(describe_items(ITEMS_TABLE.read(), IMAGES.empty(), PARAMS, runtime).semantics)
    return SEMANTICS.at().read_bytes()


def killed_runs(
    command: list[str], count: int, wait: Callable[[subprocess.Popen], None], problems: list[str]
) -> Iterator[int]:
    """Run Python code again and again, killed each time; yield after each run how many were killed, up to `count`.

    Args:
        command: the code and its arguments.
        count: kills.
        wait: returns when the run is to be killed; a run that is over by then is none of the kills.
        problems: where it is added that a run ended with an error, which is the last one.
    """
    environment, killed = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}, 0
    while killed < count:
        process = subprocess.Popen([sys.executable, "-c", *command], env=environment)
        wait(process)
        if process.poll() is None:
            process.kill()
            killed += 1
        elif process.returncode:
            problems.append(f"describe ended with {process.returncode}")
            return
        process.wait()
        yield killed


def kill_describe(folder: Path, count: int, generator: random.Random) -> Kills:
    """Kill `describe` at `count` random moments, then run it to its end.

    After each kill the store must open, and what it holds is never asked again. In the end the artifact must have the
    bytes that a run without a kill makes. Where a run ends before its kill, more items are asked for.

    Args:
        folder: the working folder, with `prompts`.
        count: how often.
        generator: of the moments.
    """
    items, asked_of_stored, problems, killed, repeated = 60, {}, [], 0, 0
    ITEMS_TABLE.write(_catalogue(items))
    with chat_server() as server:
        server.delay = ANSWER_SECONDS
        before = 0

        def wait(process: subprocess.Popen) -> None:
            _wait_for_answers(server, before, process, at_once=generator.random() < 0.2)
            time.sleep(generator.uniform(0.0, 0.4))

        for killed in killed_runs([STAGE, "cache", server.url], count, wait, problems):
            stored = _stored_titles(folder)
            again = {title for title, asked in asked_of_stored.items() if _asked(server)[title] > asked}
            if again:
                problems.append(f"after kill {killed}: {len(again)} requests in the store were asked again")
            asked_of_stored = {title: _asked(server)[title] for title in stored}
            if len(stored) == items:
                items += 40
                ITEMS_TABLE.write(_catalogue(items))
            before = server.answered.total()
        final = describe(Path("cache"), server.url)
        repeated = server.asked.total() - items
        if repeated > killed * CONCURRENCY * (1 + BATCH_SECONDS / ANSWER_SECONDS):  # under way, or not yet handed over
            problems.append(f"{repeated} requests were asked again after {killed} kills")
    with chat_server() as sound:
        if describe(Path("sound"), sound.url) != final:
            problems.append("other bytes than without a kill")
    return Kills(killed, repeated, problems)


def _catalogue(items: int):
    return items_table(*(item(number, f"Thing {number}") for number in range(items)))


def _wait_for_answers(server: ChatServer, before: int, process: subprocess.Popen, *, at_once: bool) -> None:
    """Wait until the process got an answer, or not at all."""
    deadline = time.monotonic() + (0 if at_once else 60)
    while server.answered.total() == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _asked(server: ChatServer) -> dict[str, int]:
    """Return how often each title was asked for."""
    with server.lock:
        titles = [prompt_of(body).partition("title: ")[2].partition("\n")[0] for body in server.bodies]
    return {title: titles.count(title) for title in titles}


def _stored_titles(folder: Path) -> set[str]:
    with open_store(folder / "cache" / "responses.sqlite") as store:
        return {json.loads(response.text)["category"] for batch in store._batches() for response in batch}


def main(
    description: str | None = __doc__,
    kill: Callable[[Path, int, random.Random], Kills] = kill_describe,
    repeated: str = "requests asked again",
) -> int:
    """Print how many kills lost nothing; return 1 where one did."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--moments", type=int, default=20, help="kills (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    args = parser.parse_args()
    prompts = PROMPTS.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        PROMPTS.symlink_to(prompts)
        kills = kill(Path(folder), args.moments, random.Random(args.seed))
    print(f"{kills.killed} kills, {kills.repeated} {repeated}, {len(kills.problems)} problems")
    print(*kills.problems, sep="\n", end="")
    return 1 if kills.problems else 0


if __name__ == "__main__":
    sys.exit(main())
