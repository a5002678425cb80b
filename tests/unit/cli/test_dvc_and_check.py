"""Our reading of dvc.yaml against DVC's own."""

import json
from pathlib import Path

import pytest

from sidflow.cli.check import check
from sidflow.cli.dvc import dag_stages, read_lock, run_dvc
from sidflow.core import params
from sidflow.core.errors import InputError


def test_names_and_outs_are_those_of_dvc(dvc_project: Path) -> None:
    stages = dag_stages(params.load_params())
    listed = run_dvc("stage", "list", "--name-only").stdout.split()
    assert sorted(stage.name for stage in stages) == sorted(listed)
    lock = read_lock()
    for stage in stages:
        assert set(stage.outs) == {out["path"] for out in lock[stage.name]["outs"]}
        assert set(stage.deps) == {dep["path"] for dep in lock[stage.name].get("deps", [])}
    uncached = set().union(*(stage.uncached for stage in stages))
    assert uncached == {f"artifacts/reports/{name}.json" for name in ("ingest", "quick", "slow", "leaderboard")}


def test_a_param_that_is_not_there_is_named(small_project: Path) -> None:
    with pytest.raises(InputError, match=r"ingest\.path"):
        dag_stages({"ingest": {}, "train": {}, "recommenders": []})


@pytest.mark.parametrize(("value", "found"), [(None, "null, no entries"), (3, "3"), ("sasrec", "'sasrec'")])
def test_a_section_without_entries_is_refused_as_dvc_refuses_it(dvc_project: Path, value: object, found: str) -> None:
    settings = params.load_params() | {"train": value}
    with pytest.raises(InputError, match=f"`train` is a mapping or a list; found {found}.*`train: {{}}`"):
        dag_stages(settings)
    Path("params.yaml").write_text(json.dumps(settings))
    assert run_dvc("stage", "list").returncode != 0
    Path("params.yaml").write_text(json.dumps(settings | {"train": {}}))
    assert run_dvc("stage", "list").returncode == 0


def test_two_makers_of_one_artifact_are_told(small_project: Path) -> None:
    settings = params.load_params() | {"recommenders": ["quick", "quick"]}
    with pytest.raises(InputError, match="made once"):
        check(settings, "params.yaml")
