"""Running a stage: errors in one line, its cost, peak memory."""

import json
import subprocess
import sys

import pytest

from sidflow.core import stage as stage_module
from sidflow.core.errors import InputError
from sidflow.core.stage import PROCESS_STATUS, peak_memory_mb, stage


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended, stage("train@x"):
        raise InputError("a.csv", expected="b", found="c\nd", remedy="e", count=3, example="f")
    assert ended.value.code == 2
    line = "train@x: a.csv: expected b; found c d (3 affected), for example 'f'. Remedy: e\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_the_cost_of_a_stage_is_kept_per_preset(tmp_path):
    (tmp_path / "params.yaml").write_text("preset: small\n")
    with stage("train@x"):
        pass
    cost = json.loads((tmp_path / ".sidflow/measured/small/train@x.json").read_text())
    assert cost["stage"] == "train@x"
    assert cost["peak_memory_mb"] > 10


CHILD = "from sidflow.core.stage import peak_memory_mb; print(peak_memory_mb())"
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
    monkeypatch.setattr(stage_module, "PROCESS_STATUS", tmp_path / "none")
    assert peak_memory_mb() > 0.9 * from_proc
