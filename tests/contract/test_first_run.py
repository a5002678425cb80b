"""The two halves of the pipeline that the first `make repro` runs side by side."""

import subprocess
from pathlib import Path

import pytest
from tests.committed import base_params
from tools import first_run

from sidflow.cli.dvc import Stage, dag_stages

ROOT = Path(__file__).resolve().parents[2]


def stage(name: str, *deps: str) -> Stage:
    return Stage(name, tuple(f"out/{dep}" for dep in deps), (f"out/{name}",), frozenset())


def test_no_half_reads_what_the_other_makes():
    stages = dag_stages(base_params(), ROOT / "dvc.yaml")
    halves = first_run.halves_of(stages)
    before, first, second = map(set, halves)
    assert {
        "train_sequential@sasrec",
        "quantize@shared",
        "backbone@shared",
        "finetune@mme_sid",
        "rank@mme_sid",
    } <= first
    assert {"train_sequential@gru4rec", "train_multimodal@dmesr_sasrec", "evaluate@oracle"} <= second
    assert not first & second and not (first | second) & before
    blends = ("mme_sid_blend", "mme_sid_features_blend")
    of_both = {f"{group}@{blend}" for group in ("blend", "rank", "evaluate") for blend in blends}
    assert {one.name for one in stages} - first - second - before == {*of_both, "compare", "report"}
    made = {out: one.name for one in stages for out in one.outs}
    for half in (halves.first, halves.second):
        ready = set(before)
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
    halves = first_run.halves_of(reversed(stages))
    assert halves == (["split"], ["backbone", "finetune@x", "rank@x"], ["train", "rank@train"])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of three stages, and a DVC that records its targets and ends with the code set for the first one."""
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages: {split: {cmd: x, outs: [s]}, train: {cmd: x, deps: [s], outs: [t]},"
        " finetune: {cmd: x, deps: [s], outs: [f]}}\n"
    )
    targets, exit_codes = [], {}

    class Process:
        def __init__(self, command, **_):
            targets.append(command[len(first_run.DVC) :])
            self.ended, self.returncode = False, exit_codes.get(targets[-1][0], 0)

        def wait(self):
            self.ended = True
            return self.returncode

        def terminate(self):
            assert self.ended

    monkeypatch.setattr(first_run.subprocess, "Popen", Process)
    monkeypatch.setattr(
        first_run.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, Process(command).wait())
    )
    return tmp_path, targets, exit_codes


def test_the_data_come_first(project):
    root, targets, _ = project
    assert first_run.run_side_by_side(root) == 0
    assert targets == [["split"], ["finetune"], ["train"]]


def test_a_failure_of_either_half_is_returned(project):
    root, targets, exit_codes = project
    exit_codes["train"] = 2
    assert first_run.run_side_by_side(root) == 2
    exit_codes["split"] = 3
    targets.clear()
    assert first_run.run_side_by_side(root) == 3 and targets == [["split"]]
