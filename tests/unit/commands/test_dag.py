"""Our reading of dvc.yaml against DVC's own."""

from pathlib import Path

import pytest

from sidflow.commands import dag, dvc
from sidflow.commands.check import check
from sidflow.contracts import params
from sidflow.contracts.errors import InputError


def test_names_and_outs_are_those_of_dvc(dvc_project: Path) -> None:
    stages = dag.stages(params.load_all())
    listed = dvc.run("stage", "list", "--name-only").stdout.split()
    assert sorted(stage.name for stage in stages) == sorted(listed)
    lock = dvc.lock()
    for stage in stages:
        assert set(stage.outs) == {out["path"] for out in lock[stage.name]["outs"]}
        assert set(stage.deps) == {dep["path"] for dep in lock[stage.name].get("deps", [])}
    uncached = set().union(*(stage.uncached for stage in stages))
    assert uncached == {f"artifacts/reports/{name}.json" for name in ("ingest", "quick", "slow", "leaderboard")}


def test_a_param_that_is_not_there_is_named(small_project: Path) -> None:
    with pytest.raises(InputError, match=r"ingest\.path"):
        dag.stages({"ingest": {}, "train": {}, "recommenders": []})


def test_two_makers_of_one_artifact_are_told(small_project: Path) -> None:
    settings = {"ingest": {"path": "x"}, "train": {"a": {}}, "recommenders": ["a", "a"]}
    with pytest.raises(InputError, match="made once"):
        check(settings, "params.yaml")
