"""`make repro` asks DVC unless nothing at all has changed."""

import subprocess

import pytest
from tools import repro


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("dvc.yaml", "dvc.lock", "src/a.py", "stages/b.py", "artifacts/c", "raw/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "params.yaml").write_text("ingest: {path: raw}\n")
    monkeypatch.setattr(repro, "ROOT", tmp_path)
    monkeypatch.setattr(repro, "STAMP", tmp_path / ".sidflow/last_run.json")
    monkeypatch.setattr(repro.seen, "__defaults__", (tmp_path,))
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, project_fails.pop() if project_fails else 0)

    project_fails = []
    monkeypatch.setattr(repro.subprocess, "run", run)
    return tmp_path, calls, project_fails


def test_the_second_run_does_not_ask(project, capsys):
    _, calls, _ = project
    assert repro.main() == repro.main() == 0
    assert calls == [["dvc", "repro"]]
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dvc.lock", "src/a.py", "stages/b.py", "artifacts/c", "raw/d.csv", "src/new.py"])
def test_any_change_asks(project, name):
    folder, calls, _ = project
    repro.main()
    (folder / name).write_text("changed")
    repro.main()
    assert len(calls) == 2


def test_a_lost_artifact_asks_and_so_does_a_run_that_failed(project):
    folder, calls, fails = project
    repro.main()
    (folder / "artifacts/c").unlink()
    fails.append(3)
    assert repro.main() == 3
    assert repro.main() == 0
    assert len(calls) == 3
