"""Peak memory of a process."""

import subprocess
import sys

import pytest

from sidflow.core import memory
from sidflow.core.memory import PROCESS_STATUS, peak_memory_mb

CHILD = "from sidflow.core.memory import peak_memory_mb; print(peak_memory_mb())"
LARGE = f"""
import os, sys
large = b"x" * 300_000_000
os.execv(sys.executable, [sys.executable, "-c", {CHILD!r}])
"""


@pytest.mark.skipif(not PROCESS_STATUS.is_file(), reason="needs Linux's /proc")
def test_peak_memory_is_not_that_of_the_process_before():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 200


def test_peak_memory_without_proc(monkeypatch, tmp_path):
    from_proc = peak_memory_mb()
    monkeypatch.setattr(memory, "PROCESS_STATUS", tmp_path / "none")
    assert peak_memory_mb() > 0.9 * from_proc
