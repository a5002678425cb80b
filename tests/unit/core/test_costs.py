"""What a stage cost: kept in the cache folder, of the files that it wrote, found again for those alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidflow.core import costs, stage
from sidflow.core.costs import costs_folder, measured_cost, timed_answers, write_cost
from sidflow.core.documents import Document
from sidflow.core.errors import InputError

OUT = Document("artifacts/out.json")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(costs, "_answered", {})
    monkeypatch.setattr(stage, "_resumed", {"seconds": 0.0})


def _run(value: int) -> None:
    with stage.stage("train@x"):
        OUT.write({"value": value})


def test_a_cost_is_found_for_the_files_that_its_run_wrote_and_for_no_others():
    _run(1)
    first = measured_cost("train@x")
    assert first is not None
    assert first["wall_seconds"] > 0
    assert first["peak_memory_mb"] > 10
    assert first["threads"] >= 1
    assert (first["device"], first["processes"]) == ("cpu", 1)
    assert "serving" not in first
    assert measured_cost("train@y") is None
    OUT.write({"value": 2})  # another machine's, from a shared cache
    assert measured_cost("train@x") is None
    _run(3)
    assert measured_cost("train@x") != first
    OUT.write({"value": 1})  # an earlier seed's files are back
    assert measured_cost("train@x") == first
    OUT.at().unlink()
    assert measured_cost("train@x") is None


def test_the_same_files_measured_again_have_the_later_cost():
    _run(1)
    write_cost("train@x", 1234.5)
    cost = measured_cost("train@x")
    assert cost is not None
    assert cost["wall_seconds"] == 1234.5
    assert len(list(costs_folder("train@x").iterdir())) == 1


def test_a_run_that_resumed_has_the_time_of_both_parts():
    stage.add_resumed_seconds(5000)
    _run(1)
    cost = measured_cost("train@x")
    assert cost is not None
    assert cost["wall_seconds"] > 5000


def test_histories_answered_and_their_seconds_add_up_by_part():
    for _ in range(2):
        with timed_answers("answer", 30):
            pass
    with timed_answers("rank", 7):
        pass
    _run(1)
    cost = measured_cost("train@x")
    assert cost is not None
    assert {part: value["histories"] for part, value in cost["serving"].items()} == {"answer": 60, "rank": 7}
    assert all(value["seconds"] >= 0 for value in cost["serving"].values())


def test_a_stage_that_fails_costs_nothing():
    with pytest.raises(SystemExit), stage.stage("train@x"):
        raise InputError("a", expected="b", found="c", remedy="d")
    assert not costs_folder("train@x").exists()


def test_a_cost_that_finds_no_room_is_a_line_of_warning_and_the_result_stands(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    code = (
        "from sidflow.core.documents import Document\nfrom sidflow.core.stage import stage\n"
        "with stage('x'): Document('out.json').write({'value': 1})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("x: its cost is not kept: ")
    assert "cache: expected folders" in done.stderr
    assert Path("out.json").is_file()


def test_a_broken_file_of_a_cost_is_named(tmp_path):
    _run(1)
    next(costs_folder("train@x").iterdir()).write_text("{")
    with pytest.raises(InputError, match="costs/train@x"):
        measured_cost("train@x")
