"""What tells checkpoints apart, and the time that they carry over."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from sidflow.core import stage
from sidflow.core.stage import seconds_spent
from sidflow.training.checkpoint import Checkpoint, Snapshot


def test_settings_and_code_and_inputs_tell_checkpoints_apart(cache, tmp_path, monkeypatch):
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    first = Checkpoint("t", {"a": 1}, code=[code]).path
    assert Checkpoint("t", {"a": 1}, code=[code]).path == first
    assert Checkpoint("t", {"a": 2}, code=[code]).path != first
    code.write_text("a = 2")
    changed = Checkpoint("t", {"a": 1}, code=[code]).path
    assert changed != first
    data = tmp_path / "data"
    data.write_text("1")
    monkeypatch.setattr("sidflow.core.files._touched", {"reads": {str(data)}, "writes": set(), "params": set()})
    with_input = Checkpoint("t", {"a": 1}, code=[code]).path
    data.write_text("2")
    assert len({changed, with_input, Checkpoint("t", {"a": 1}, code=[code]).path}) == 3


def test_a_checkpoint_is_of_the_script_and_of_the_packages_that_it_loads(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(
        "from pathlib import Path\n"
        "from sidflow.training.checkpoint import running_code\n"
        "print(*[path if path == Path(__file__) else path.parts[path.parts.index('sidflow') + 1]"
        " for path in running_code()])\n"
    )
    source = str(Path(__file__).parents[3] / "src")
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    *packages, last = done.stdout.split()
    assert last == str(script)
    assert {"training", "core"} <= set(packages)
    assert "report" not in packages


def test_a_resumed_run_counts_the_time_of_the_killed_ones(cache, monkeypatch):
    def saved(name, seconds):
        monkeypatch.setattr(stage, "_resumed", {"seconds": seconds})
        checkpoint = Checkpoint(name, {}, code=[])
        checkpoint.save(Snapshot({"a": torch.zeros(1)}, {}))
        return checkpoint

    short, long = saved("short", 50_000.0), saved("long", 90_000.0)
    monkeypatch.setattr(stage, "_resumed", {"seconds": 0.0})
    assert seconds_spent() < 40_000
    short.load()
    assert 50_000 < seconds_spent() < 90_000
    long.load()
    short.load()  # of two trainings of a stage the later one's holds the earlier one's time, too
    assert 90_000 < seconds_spent() < 130_000
