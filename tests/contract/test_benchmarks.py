"""Every benchmark finds what it imports, whatever moved in the package; what stands in for a peer's way is that way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sidflow.training.softmax import TrainingScores

ROOT = Path(__file__).resolve().parents[2]


def test_every_benchmark_can_be_imported(tmp_path):
    names = sorted(path.stem for path in (ROOT / "experiments/benchmarks").glob("*.py"))
    assert len(names) > 15
    done = subprocess.run(
        [sys.executable, "-c", "".join(f"import {name}\n" for name in names)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'experiments/benchmarks'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_projects_interpreter_can_measure_its_side():
    """`-S` leaves out site-packages, so that only the standard library and this repository are there."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import side_by_side; print(side_by_side.peak_memory_mb())"],
        env={"PYTHONPATH": str(ROOT / "experiments/benchmarks")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) > 1


def test_negatives_of_each_positions_own_are_a_plain_softmax_over_them(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments/benchmarks"))
    import sasrec_training

    torch.manual_seed(0)
    states, vectors = torch.randn(1500, 8, requires_grad=True), torch.randn(300, 8, requires_grad=True)
    targets, events = torch.randint(300, (1500,)), torch.arange(1500)
    torch.manual_seed(1)
    scores = TrainingScores(states, vectors, targets, None, last_event=events - 1, target_event=events)
    loss = sasrec_training.OwnNegatives(20)(scores)
    gradients = torch.autograd.grad(3 * loss, (states, vectors))
    torch.manual_seed(1)
    negatives = torch.randint(300, (1500, 20))  # an item may be sampled twice, or be the target
    rows = functional.embedding(torch.cat([targets[:, None], negatives], 1), vectors)
    logits = torch.einsum("pcd,pd->pc", rows, states)
    plain = functional.cross_entropy(logits, torch.zeros_like(targets))
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradients, torch.autograd.grad(3 * plain, (states, vectors)))


def test_a_record_of_the_repository_is_replaced_only_where_it_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "experiments/benchmarks"))
    import side_by_side

    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path / "records")
    monkeypatch.setattr(side_by_side, "OWN_RESULTS", tmp_path / "own")
    side_by_side.write("folder/name", {"a": 1}, dry=False)
    side_by_side.write("folder/name", {"a": 2}, dry=False)
    record, own = tmp_path / "records/folder/name.json", tmp_path / "own/folder/name.json"
    assert (json.loads(record.read_text()), json.loads(own.read_text())) == ({"a": 1}, {"a": 2})
    assert "is recorded already and stays" in capsys.readouterr().out
    side_by_side.write("folder/name", {"a": 3}, dry=False, replace=True)
    assert json.loads(record.read_text()) == {"a": 3}


def test_a_run_goes_on_with_the_record_that_it_has_begun_and_with_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments/benchmarks"))
    import side_by_side

    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path / "records")
    monkeypatch.setattr(side_by_side, "OWN_RESULTS", tmp_path / "own")
    records, own = tmp_path / "records/settings/x.json", tmp_path / "own/settings/x.json"
    assert side_by_side.record_path("settings/x", replace=False, resumed=True) == records
    side_by_side.keep(records, {"commit": side_by_side.commit()})
    assert side_by_side.record_path("settings/x", replace=False, resumed=True) == records
    side_by_side.keep(records, {"commit": "0000000"})
    assert side_by_side.record_path("settings/x", replace=False, resumed=True) == own
    assert side_by_side.record_path("settings/x", replace=True, resumed=True) == records
    assert side_by_side.begun_record(records) == {}
    side_by_side.keep(records, {"commit": side_by_side.commit(), "rows": [1]})
    assert side_by_side.begun_record(records)["rows"] == [1]
    assert side_by_side.begun_record(tmp_path / "none.json") == {}


def test_a_benchmark_stands_in_the_folder_of_its_run_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments/benchmarks"))
    import finished_run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/one").mkdir(parents=True)
    for argument, name in (("embedded=runs/one", "embedded"), ("runs/one", "one")):
        with pytest.raises(ZeroDivisionError), finished_run.enter_run(argument) as entered:
            assert (entered, Path.cwd()) == (name, tmp_path / "runs/one")
            raise ZeroDivisionError
        assert Path.cwd() == tmp_path
