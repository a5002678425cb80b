"""A project of four stages that real DVC runs in a second: what the commands are tried on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sidflow.commands import dvc

PIPELINE = """
stages:
  ingest:
    cmd: python ingest.py
    deps: ["${ingest.path}"]
    params: [ingest]
    outs: [artifacts/catalog/data.txt]
    metrics:
      - artifacts/reports/ingest.json: {cache: false}
  train:
    foreach: ${train}
    do:
      cmd: python train.py ${key}
      deps: [artifacts/catalog/data.txt]
      params: ["train.${key}", seed]
      outs: ["artifacts/recommenders/${key}"]
  rank:
    foreach: ${recommenders}
    do:
      cmd: python rank.py ${item}
      deps: ["artifacts/recommenders/${item}"]
      outs: ["artifacts/rankings/${item}"]
      metrics:
        - "artifacts/reports/${item}.json": {cache: false}
  compare:
    cmd: python compare.py
    deps: [artifacts/rankings]
    params: [recommenders]
    metrics:
      - artifacts/reports/leaderboard.json: {cache: false}
"""

EMBEDDED = """\
# The small default. It needs nothing.
preset: embedded
seed: 42        # of every model

ingest:
  source: synthetic      # synthetic | files
  path: words.txt        # what is read
  seed: 7
train:
  quick: {rate: 3e-4, size: 8}   # rate per step
  slow: {rate: 0.1}
recommenders: [quick, slow]
"""

OTHER = """\
# Files of one's own. Second sentence.
ingest: {source: files, path: null, seed: null}
train:
  slow: null
  third: {rate: 1}
recommenders: [quick, third]
"""

SCRIPTS = {
    "ingest.py": """
import json, pathlib
from ruamel.yaml import YAML
path = pathlib.Path(YAML(typ="safe").load(open("params.yaml"))["ingest"]["path"])
text = (path / "words.txt" if path.is_dir() else path).read_text()
pathlib.Path("artifacts/catalog").mkdir(parents=True, exist_ok=True)
pathlib.Path("artifacts/reports").mkdir(parents=True, exist_ok=True)
pathlib.Path("artifacts/catalog/data.txt").write_text(text)
pathlib.Path("artifacts/reports/ingest.json").write_text(json.dumps({"n": len(text)}))
""",
    "train.py": """
import pathlib, sys
folder = pathlib.Path("artifacts/recommenders") / sys.argv[1]
folder.mkdir(parents=True, exist_ok=True)
(folder / "model.txt").write_text(sys.argv[1] + pathlib.Path("artifacts/catalog/data.txt").read_text())
""",
    "rank.py": """
import json, pathlib, sys
folder = pathlib.Path("artifacts/rankings") / sys.argv[1]
folder.mkdir(parents=True, exist_ok=True)
text = (pathlib.Path("artifacts/recommenders") / sys.argv[1] / "model.txt").read_text()
(folder / "top.txt").write_text(text[::-1])
pathlib.Path("artifacts/reports", sys.argv[1] + ".json").write_text(json.dumps({"n": len(text)}))
""",
    "compare.py": """
import json, pathlib
found = {p.name: (p / "top.txt").read_text() for p in sorted(pathlib.Path("artifacts/rankings").iterdir())}
pathlib.Path("artifacts/reports/leaderboard.json").write_text(json.dumps(found))
""",
}


def _environment(folder: Path) -> dict[str, str]:
    """Return variables under which neither git nor DVC read or write anything outside of `folder`."""
    return {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "no-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "no-config"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }


def _write_project(folder: Path) -> None:
    (folder / "presets").mkdir(parents=True)
    for name, text in {
        **SCRIPTS,
        "dvc.yaml": PIPELINE,
        "params.yaml": EMBEDDED,
        "presets/embedded.yaml": EMBEDDED,
        "presets/other.yaml": OTHER,
        "words.txt": "hello",
        ".gitignore": "/artifacts/*\n!/artifacts/reports/\n/.sidflow/\n__pycache__/\n",
    }.items():
        (folder / name).write_text(text.lstrip("\n"))


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a pipeline and two presets; it is the current folder, without git and DVC.

    The second preset's data is `data/other` beside it.
    """
    _write_project(tmp_path / "project")
    return _enter(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def project_that_ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project under git and DVC, run once and committed: to be copied, not used."""
    folder = tmp_path_factory.mktemp("ran")
    project = folder / "project"
    _write_project(project)
    program = dvc.executable()
    assert program is not None
    for command in (
        ["git", "init", "-q"],
        [str(program), "init", "-q"],
        [str(program), "repro", "-q"],
        ["git", "add", "."],
        ["git", "commit", "-qm", "run"],
    ):
        subprocess.run(command, cwd=project, env=dvc.environment(_environment(folder)), check=True)
    return project


@pytest.fixture
def dvc_project(project_that_ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the small project under git and DVC, run once and committed."""
    shutil.copytree(project_that_ran, tmp_path / "project", symlinks=True)
    return _enter(tmp_path, monkeypatch)


def _enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data" / "other").mkdir(parents=True)
    (tmp_path / "data" / "other" / "words.txt").write_text("goodbye")
    for name, value in _environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SIDFLOW_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
