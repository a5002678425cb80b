"""A catalogue of four items, and params that have a server describe it."""

import hashlib

from tests.unit.semantics.test_rules import BLUE, RED, images_table, item, items_table

from sidflow.artifacts.features import SEMANTICS
from sidflow.core.runtime import Runtime
from sidflow.semantics.params import DescribeParams, OpenAIParams

ITEMS = items_table(item(0, "Red mug", "Holds tea."), item(1, "Blue lamp"), item(2), item(3, "Chair"))
PICTURES = images_table(i0=RED, i2=BLUE)


def params(**changes):
    writer = OpenAIParams(backend="openai", model="vl-7b", revision="abc", **changes.pop("writer", {}))
    return DescribeParams(writer=writer, **changes)


def runtime(server, tmp_path, **changes):
    """Return settings with which only a server that never answers is given up, also where the machine is busy."""
    return Runtime(cache=tmp_path / "cache", server=server.url, **{"request_seconds": 300.0, **changes})


def views(described):
    return {(row["item_id"], row["view"]): row["text"] for row in described.semantics.iter_rows(named=True)}


def file_hash(described):
    SEMANTICS.write(described.semantics)
    return hashlib.sha256(SEMANTICS.at().read_bytes()).hexdigest()
