"""`kill -9` of `describe` while the committed model writes. Run: python -m tests.unit.semantics.writer_kills --help."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

from tests.unit.semantics.kills import ROOT, Kills, killed_runs, main
from tests.unit.semantics.test_rules import BLUE, RED, images_table, item, items_table

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.features import SEMANTICS
from sidflow.core.runtime import Runtime
from sidflow.models import batching
from sidflow.models.batching import Keyed
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, TransformersParams
from sidflow.semantics.store import Response, open_store
from sidflow.semantics.transformers_writer import TransformersWriter

BATCH = 3  # requests; so small that a kill falls between batches as well as into one
MORE_ITEMS = 40
STAGE = """
import sys
from pathlib import Path
from tests.unit.semantics.writer_kills import describe
describe(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def describe(cache: Path, begun: Path) -> bytes:
    """Describe the catalogue in this folder as the preset `embedded` does, and return the artifact's bytes.

    Args:
        cache: folder of the response store.
        begun: file to which the keys of a batch are added before it is generated.
    """
    folder = str(ROOT / "models/shop-writer")
    writer = TransformersParams(backend="transformers", model={"kind": "path", "path": folder}, max_tokens=64)  # type: ignore[arg-type]
    generate = TransformersWriter._generate

    def logged(self: TransformersWriter, batch: list[Keyed]) -> list[Response]:
        with begun.open("a") as lines:
            lines.writelines(f"{key}\n" for key, _ in batch)
        return generate(self, batch)

    with patch.object(TransformersWriter, "_generate", logged), patch.object(batching, "BATCH_REQUESTS", BATCH):
        runtime = Runtime(cache=cache, device="cpu")
        params = DescribeParams(writer=writer, max_failed_share=1.0)
        SEMANTICS.write(describe_items(ITEMS_TABLE.read(), IMAGES.read(), params, runtime).semantics)
    return SEMANTICS.at().read_bytes()


def kill_writer(folder: Path, count: int, generator: random.Random) -> Kills:
    """Kill `describe` at `count` random moments, then run it to its end.

    After each kill the store must open and hold what it held; nothing that it held may be generated again. In the end
    the artifact must have the bytes that a run without a kill makes. Where a run ends before its kill, items are added.

    Args:
        folder: the working folder, with `prompts`.
        count: how often.
        generator: of the moments.
    """
    cache, begun = folder / "cache", folder / "begun"
    begun.touch()
    items, held, problems, killed, before = MORE_ITEMS, {}, [], 0, 0
    _write_catalogue(items)

    def wait(process: subprocess.Popen) -> None:
        while process.poll() is None and len(_keys(begun)) == before:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.5))

    for killed in killed_runs([STAGE, str(cache), str(begun)], count, wait, problems):
        stored = _stored(cache)
        if held.items() - stored.items():
            problems.append(f"after kill {killed}: {len(held.items() - stored.items())} stored answers are lost")
        again = held.keys() & set(_keys(begun)[before:])
        if again:
            problems.append(f"after kill {killed}: {len(again)} stored answers were generated again")
        held = stored
        if len(stored) == len(set(_keys(begun))):
            items += MORE_ITEMS
            _write_catalogue(items)
        before = len(_keys(begun))
    final = describe(cache, begun)
    if describe(folder / "sound", folder / "begun-sound") != final:
        problems.append("other bytes than without a kill")
    if set(_keys(begun)) != set(_keys(folder / "begun-sound")):
        problems.append("other requests than without a kill")
    return Kills(killed, len(_keys(begun)) - len(_stored(cache)), problems)


def _write_catalogue(count: int) -> None:
    """Write items whose words all differ, every fourth with a picture."""
    pictures = {f"i{number}": (RED, BLUE)[number % 8 == 0] for number in range(0, count, 4)}
    ITEMS_TABLE.write(items_table(*(item(number, f"Nordic mug {number}", "Holds tea.") for number in range(count))))
    IMAGES.write(images_table(**pictures))


def _keys(begun: Path) -> list[str]:
    return begun.read_text().split()


def _stored(cache: Path) -> dict[str, Response]:
    with open_store(cache / "responses.sqlite") as store:
        return {response.key: response for batch in store._batches() for response in batch}


if __name__ == "__main__":
    sys.exit(main(__doc__, kill_writer, "answers written again"))
