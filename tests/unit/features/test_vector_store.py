"""`kill -9` of an encoder: every batch that was handed over is in the store, and none is encoded again."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from sidflow.features.vector_store import open_vectors, stored_vectors

ROOT = Path(__file__).resolve().parents[3]
CONTENTS = [f"content {number}".encode() for number in range(30_000)]
ENCODER = """
from tests.unit.features.test_vector_store import CONTENTS, encoded
encoded(batch=8)
print("end", flush=True)
"""


def encoded(batch):
    """Return the vectors of the contents, made in batches; prints positions before and after each is kept."""

    def encode(positions):
        for start in range(0, len(positions), batch):
            part = positions[start : start + batch]
            print("begun", *part, flush=True)
            yield part, np.stack([vector_of(position) for position in part])
            print("kept", *part, flush=True)

    return stored_vectors(CONTENTS, {"encoder": "tiny"}, encode, "tiny")


def vector_of(position):
    return np.random.default_rng(position).standard_normal(16).astype(np.float32)


def positions_of(mark, lines):
    """Return the positions in whole lines that begin with `mark`."""
    return {int(number) for line in lines if line.startswith(f"{mark} ") for number in line.split()[1:]}


def test_a_kill_loses_no_batch_that_was_handed_over_and_costs_no_vector_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    generator, kept = random.Random(0), set()
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", ENCODER], stdout=subprocess.PIPE, env=environment, text=True
        ) as process:
            assert process.stdout is not None
            lines = []
            while not any(line.startswith("kept") for line in lines):
                lines.append(process.stdout.readline())
            time.sleep(generator.uniform(0.0, 0.2))
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        assert "end\n" not in whole  # it was killed at work
        assert not positions_of("begun", whole) & kept
        kept |= positions_of("kept", whole)
        with open_vectors() as store:
            stored = store._connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        assert stored >= len(kept) > 0
    capsys.readouterr()
    vectors = encoded(batch=5000)
    assert not positions_of("begun", capsys.readouterr().out.splitlines()) & kept
    assert np.array_equal(np.stack(vectors), np.stack([vector_of(position) for position in range(len(CONTENTS))]))
