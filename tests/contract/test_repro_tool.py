"""`make repro` asks DVC unless nothing at all has changed."""

import subprocess
import sys

import pytest
from tools import repro

from sidflow.commands import dvc
from sidflow.contracts.errors import InputError

LOCK = """schema: '2.0'
stages:
  a:
    outs:
    - path: artifacts/a
      md5: 0123456789abcdef0123456789abcdef
    - path: artifacts/reports/a.json
      md5: ffffffffffffffffffffffffffffffff
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("dvc.yaml", "dvc.lock", "src/a.py", "stages/b.py", "artifacts/c", "raw/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "params.yaml").write_text("ingest: {path: raw}\n")
    monkeypatch.setattr(repro, "ROOT", tmp_path)
    monkeypatch.setattr(repro, "STAMP", tmp_path / ".sidflow/last_run.json")
    monkeypatch.setattr(repro.seen, "__defaults__", (tmp_path,))
    monkeypatch.setattr(repro, "is_idle", lambda lock: False)
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
    assert calls == [[sys.executable, "tools/quick_dvc.py", "repro"]]
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


@pytest.mark.parametrize("text", ["", '{"dvc.ya', "\xff", "[1"])
def test_a_broken_stamp_is_none(project, text):
    _, calls, _ = project
    repro.main()
    repro.STAMP.write_bytes(text.encode("latin-1"))
    assert repro.main() == repro.main() == 0
    assert len(calls) == 2


def test_a_stamp_that_is_cut_short_is_not_left(project, monkeypatch):
    folder, _, _ = project
    whole = type(folder).write_text

    def killed(self, text, **_):
        whole(self, text[:9])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(folder), "write_text", killed)
        repro.main()
    assert not any(repro.STAMP.parent.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ingest: {path: raw\nseed: 1\n", "params.yaml, line 2, column 5: expected YAML"),
        ("ingest: {}\ningest: {}\n", "line 2, column 1: expected every name once"),
        ("- ingest\n", "params.yaml: expected lines of `name: value`; found a list"),
    ],
)
def test_a_slip_in_params_is_one_line_and_the_lock_stays(project, text, said, capsys):
    folder, calls, _ = project
    (folder / "params.yaml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        repro.main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and said in told and told.count("\n") == 1
    assert not calls and (folder / "dvc.lock").is_file()


@pytest.mark.parametrize("text", ["ingest: 3\n", "ingest: {path: 3}\n", "ingest:\n", ""])
def test_params_that_name_no_data_are_left_to_dvc(project, text):
    folder, calls, _ = project
    (folder / "params.yaml").write_text(text)
    assert repro.main() == 0
    assert len(calls) == 1


def test_what_the_lanes_and_dvc_refuse_is_one_line(project, monkeypatch, capsys):
    def refuse(*_):
        raise InputError("dvc", expected="the dvc command", found="none", remedy="`make` installs it into .venv")

    monkeypatch.setattr(repro, "is_idle", refuse)
    with pytest.raises(SystemExit) as stopped:
        repro.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "make repro: dvc: expected the dvc command; found none. Remedy: `make` installs it into .venv\n"
    )


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A fresh clone: reports are committed, nothing else is there."""
    (tmp_path / "artifacts/reports").mkdir(parents=True)
    (tmp_path / "artifacts/reports/a.json").write_text("{}")
    (tmp_path / "dvc.lock").write_text(LOCK)
    for arguments in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(repro, "ROOT", tmp_path)
    remotes = []
    told = {("remote", "list"): lambda: "\n".join(remotes), ("cache", "dir"): lambda: ".dvc/cache"}
    monkeypatch.setattr(
        dvc, "run", lambda *words, folder: subprocess.CompletedProcess(words, 0, stdout=told[words](), stderr="")
    )
    return tmp_path, remotes


def test_the_lock_of_a_fresh_clone_is_idle(clone):
    folder, _ = clone
    assert repro.is_idle(folder / "dvc.lock")


@pytest.mark.parametrize("kept", ["artifacts/a", ".dvc/cache/files/md5/01/23456789abcdef0123456789abcdef"])
def test_a_lock_that_spares_a_stage_is_not(clone, kept):
    folder, _ = clone
    (folder / kept).parent.mkdir(parents=True, exist_ok=True)
    (folder / kept).write_text("made before")
    assert not repro.is_idle(folder / "dvc.lock")


def test_nor_is_one_whose_artifacts_a_remote_may_hold(clone):
    folder, remotes = clone
    remotes.append("team  /somewhere")
    assert not repro.is_idle(folder / "dvc.lock")
