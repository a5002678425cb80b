"""A project of four stages that real DVC runs in a second: what the commands are tried on."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import pytest
from pydantic import Field

from sidflow.artifacts.catalog import ITEMS, USERS
from sidflow.artifacts.evaluation import EXPECTED, PER_QUERY, TARGET_RANKS, TOP
from sidflow.artifacts.features import EMBEDDING, MODALITY
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.cli import presets, sections
from sidflow.cli.dvc import dvc_environment, dvc_executable
from sidflow.core.params import Params

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
train:
  quick: {rate: 3e-4, size: 8}
  slow: {rate: 0.1}
"""

OTHER = """\
# Files of one's own. Second sentence.
extends: embedded
ingest: {source: files}
train:
  slow: null
  third: {rate: 1}
"""


class SmallIngest(Params):
    """What is read."""

    source: Literal["synthetic", "files"] = Field(default="synthetic", description="synthetic | files")
    path: str = Field(default="words.txt", description="file or folder of the raw data")
    seed: int = Field(default=7, description="of the words")


class SmallTraining(Params):
    """A small model."""

    rate: float = Field(gt=0, description="per step")
    size: int = Field(default=4, description="width")


class SmallSection(NamedTuple):
    """A section of the small project, as `sidflow.cli.sections.Section` is one of the real."""

    model: type[Params]
    meaning: str = ""

    @property
    def has_entries(self) -> bool:
        """Whether the section holds entries."""
        return bool(self.meaning)

    def imported(self) -> type[Params]:
        """Return the model."""
        return self.model


SMALL_SECTIONS = {"ingest": SmallSection(SmallIngest), "train": SmallSection(SmallTraining, "what is trained")}

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
    """Write the project; its own sections have to be in force."""
    (folder / "presets").mkdir(parents=True)
    for name, text in {
        **SCRIPTS,
        "dvc.yaml": PIPELINE,
        "presets/embedded.yaml": EMBEDDED,
        "presets/other.yaml": OTHER,
        "words.txt": "hello",
        ".gitignore": "/artifacts/*\n!/artifacts/reports/\n/.sidflow/\n__pycache__/\n",
    }.items():
        (folder / name).write_text(text.lstrip("\n"))
    with contextlib.chdir(folder):
        Path("params.yaml").write_text(presets.preset_text("embedded"))


def _use_small_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in reversed(list(sections.SECTIONS)):  # they come back in reverse, so in their order
        monkeypatch.delitem(sections.SECTIONS, name)
    for name, section in SMALL_SECTIONS.items():
        monkeypatch.setitem(sections.SECTIONS, name, section)
    monkeypatch.setattr("sidflow.cli.check.check_names", lambda *_: None)  # what real sections need of others


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a pipeline and two presets; it is the current folder, without git and DVC.

    The second preset's data is `data/other` beside it.
    """
    _use_small_sections(monkeypatch)
    _write_project(tmp_path / "project")
    return _enter(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def project_that_ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project under git and DVC, run once and committed: to be copied, not used."""
    folder = tmp_path_factory.mktemp("ran")
    project = folder / "project"
    with pytest.MonkeyPatch.context() as monkeypatch:
        _use_small_sections(monkeypatch)
        _write_project(project)
    program = dvc_executable()
    assert program is not None
    for command in (
        ["git", "init", "-q"],
        [str(program), "init", "-q"],
        [str(program), "repro", "-q"],
        ["git", "add", "."],
        ["git", "commit", "-qm", "run"],
    ):
        subprocess.run(command, cwd=project, env=dvc_environment(_environment(folder)), check=True)
    return project


@pytest.fixture
def dvc_project(project_that_ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the small project under git and DVC, run once and committed."""
    _use_small_sections(monkeypatch)
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


CATALOGUE_PARAMS = """\
preset: embedded
seed: 42
threads: 1
ingest: {source: synthetic, path: words.txt, seed: 7}
rank: {exclude_history: true}
evaluate: {}
modality:
  text: {source: artifacts/embeddings/text.safetensors}
  image: {source: artifacts/embeddings/image.safetensors}
recommenders: [popularity, sasrec]
"""


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which holds artifacts of 6 items (one outside the core) and 3 users.

    User u-1 had red, green, blue and then (held out) gold; item k-5 is outside the core; image of k-0 is absent.
    """
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(CATALOGUE_PARAMS)
    Path("dvc.yaml").write_text("stages: {}\n")
    titles = ["Red lamp", "Green lamp", "Blue lamp", "Gold lamp", "Grey chair", "Odd thing"]
    ITEMS.write(
        pl.DataFrame(
            {
                "item_id": range(6),
                "item_key": [f"k-{row}" for row in range(6)],
                "title": titles,
                "description": ["It glows."] * 6,
                "brand": ["Lux"] * 6,
                "categories": [["Home", "Lamps"]] * 6,
                "attributes": [[{"name": "colour", "value": title.split()[0]}] for title in titles],
                "in_core": [True] * 5 + [False],
            }
        )
    )
    USERS.write(pl.DataFrame({"user_id": [0, 1, 2], "user_key": ["u-0", "u-1", "u-2"]}))
    SEQUENCES.write(
        pl.DataFrame(
            {
                "user_id": [0, 1, 2],
                "items": [[0, 1, 4, 2], [0, 1, 2, 3], [4, 3, 1, 0]],
                "timestamps": [[1, 2, 3, 4]] * 3,
                "train_end": [2, 2, 2],
            }
        )
    )
    users, parts = [0, 1, 2] * 2, ["valid"] * 3 + ["test"] * 3
    QUERIES.write(
        pl.DataFrame({"query_id": range(6), "user_id": users, "part": parts, "history_end": [2] * 3 + [3] * 3})
    )
    TARGETS.write(pl.DataFrame({"query_id": range(6), "item_id": [4, 2, 1, 2, 3, 0], "tied": [False] * 6}))
    for model, shift in (("popularity", 0), ("sasrec", 1)):
        tops = np.array([[3, 4, 2, -1], [2, 3, 4, -1], [0, 1, 2, -1]] * 2, dtype=np.int32)
        scores = np.tile(np.array([3, 2, 1, np.finfo(np.float32).min], dtype=np.float32), (6, 1))
        TOP.write(
            pl.DataFrame({"query_id": range(6)}).with_columns(
                pl.Series("items", tops, dtype=pl.Array(pl.Int32, 4)),
                pl.Series("scores", scores, dtype=pl.Array(pl.Float32, 4)),
            ),
            model=model,
        )
        ranks = [1, 1, 2, 3, 2 + shift, 1]
        TARGET_RANKS.write(
            pl.DataFrame({"query_id": range(6), "rank": ranks, "candidates": [2] * 6, "sampled_rank": ranks}),
            model=model,
        )
        PER_QUERY.write(
            pl.DataFrame(
                {
                    "query_id": range(6),
                    "user_id": users,
                    "part": parts,
                    "rank": ranks,
                    "candidates": [2] * 6,
                    "sampled_rank": ranks,
                    "tied": [False] * 6,
                    "history_length": [2] * 3 + [3] * 3,
                    "target_count": [1] * 6,
                }
            ).with_columns(
                *(pl.lit(None if model == "popularity" else 0.25, dtype=pl.Float32).alias(name) for name in EXPECTED)
            ),
            model=model,
        )
    codes = [[1, 2], [1, 2], [1, 3], [2, 0], [3, 3], [3, 4]]
    SEMANTIC_IDS.write(
        pl.DataFrame({"item_id": range(6), "modality": ["text"] * 6, "suffix": [0, 1, 0, 0, 0, 0]}).with_columns(
            pl.Series("codes", np.array(codes, dtype=np.int32), dtype=pl.Array(pl.Int32, 2))
        )
    )
    values = np.array([[2, 0], [1, 0.1], [1, 1], [0, 1], [-1, 0], [3, 0.3]], dtype=np.float32)
    for name, present in (("text", [True] * 6), ("image", [False] + [True] * 5)):
        shown = np.array(present)
        arrays = {"values": values * shown[:, None], "present": shown}
        MODALITY.write(arrays, {"params": {"normalise": "none", "dim": None}, "width": 2}, name=name)
        EMBEDDING.write({"values": 2 * arrays["values"], "present": shown}, {}, name=name)
    return tmp_path
