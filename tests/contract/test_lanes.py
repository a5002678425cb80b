"""The two halves of the pipeline that `make repro` runs side by side."""

import subprocess
from pathlib import Path

import pytest
from tools import lanes

from sidflow.commands import dag
from sidflow.commands.dag import Stage
from sidflow.contracts import params

ROOT = Path(__file__).resolve().parents[2]


def stage(name: str, *deps: str) -> Stage:
    return Stage(name, tuple(f"out/{dep}" for dep in deps), (f"out/{name}",), frozenset())


def test_no_half_reads_what_the_other_makes():
    stages = dag.stages(params.load_all(ROOT / "params.yaml"), ROOT / "dvc.yaml")
    found = lanes.parted(stages)
    first, second = map(set, found.halves)
    assert {"train_sequential@sasrec", "quantize", "backbone", "finetune@mme_sid", "rank@mme_sid"} <= first
    assert {"train_sequential@gru4rec", "train_multimodal@dmesr_sasrec", "evaluate@oracle"} <= second
    assert not first & second and not (first | second) & set(found.before)
    assert {one.name for one in stages} - first - second - set(found.before) == {"compare", "report"}
    made = {out: one.name for one in stages for out in one.outs}
    for half in found.halves:
        ready = set(found.before)
        for name in half:
            deps = next(one.deps for one in stages if one.name == name)
            assert {made[dep] for dep in deps if dep in made} <= ready
            ready.add(name)


def test_what_needs_both_halves_is_left():
    stages = [
        stage("split"),
        stage("train", "split"),
        stage("backbone", "split"),
        stage("finetune@x", "backbone"),
        stage("rank@x", "finetune@x"),
        stage("rank@train", "train"),
        stage("compare", "rank@x", "rank@train"),
    ]
    found = lanes.parted(reversed(stages))
    assert found.before == ["split"]
    assert found.halves == (["backbone", "finetune@x", "rank@x"], ["train", "rank@train"])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of three stages, and a DVC that writes down what it is asked and ends as told."""
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages: {split: {cmd: x, outs: [s]}, train: {cmd: x, deps: [s], outs: [t]},"
        " finetune: {cmd: x, deps: [s], outs: [f]}}\n"
    )
    (tmp_path / "dvc.lock").write_text("stages:\n  train: {cmd: x}\n  split: {cmd: x}\n")
    asked, ends = [], {}

    class Process:
        def __init__(self, command, **_):
            asked.append(command[len(lanes.DVC) :])
            self.ended, self.returncode = False, ends.get(asked[-1][0], 0)

        def wait(self):
            self.ended = True
            return self.returncode

        def terminate(self):
            assert self.ended

    monkeypatch.setattr(lanes.subprocess, "Popen", Process)
    monkeypatch.setattr(
        lanes.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, Process(command).wait())
    )
    return tmp_path, asked, ends


def test_the_data_come_first_and_the_lock_is_put_in_order(project):
    root, asked, _ = project
    assert lanes.fill(root) == 0
    assert asked == [["split"], ["finetune"], ["train"]]
    assert (root / "dvc.lock").read_text().index("split") < (root / "dvc.lock").read_text().index("train")


def test_a_failure_of_one_half_is_told(project):
    root, asked, ends = project
    ends["train"] = 2
    assert lanes.fill(root) == 2
    ends["split"] = 3
    asked.clear()
    assert lanes.fill(root) == 3 and asked == [["split"]]
