import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.core import stage
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path
from sidflow.core.stage import PROCESS_STATUS, peak_memory_mb, stage
from sidflow.sequences.histories import load_histories, load_histories_for_ranking


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loaded():
    SEQUENCES.write(
        pl.DataFrame(
            {"user_id": [0, 1, 2], "items": [[1, 2, 1, 4], [4, 3, 1], []], "timestamps": [[1, 2, 3, 4], [1, 2, 3], []],
             "train_end": [2, 1, 0]}
        )
    )  # fmt: skip
    QUERIES.write(
        pl.DataFrame(
            {"query_id": [0, 1, 2], "user_id": [0, 0, 1], "part": ["valid", "test", "test"], "history_end": [2, 3, 2]}
        )
    )
    TARGETS.write(pl.DataFrame({"query_id": [0, 1, 2], "item_id": [1, 4, 1], "tied": [False] * 3}))
    return load_histories()


def test_histories_and_training_parts(loaded):
    assert (loaded.user_count, loaded.query_count) == (3, 3)
    assert loaded.training_items(0).tolist() == [1, 2]
    assert loaded.history(1).tolist() == [1, 2, 1]
    users, items = loaded.training_events()
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 4)]
    assert loaded.training_counts(5).tolist() == [0, 1, 1, 0, 1]
    assert loaded.query_valid.tolist() == [True, False, False]


def test_seen_is_the_history_as_a_set(loaded):
    assert loaded.seen(5).toarray().astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert loaded.seen(5, np.array([2])).toarray().astype(int).tolist() == [[0, 0, 0, 1, 1]]


def test_who_ranks_is_told_whether_histories_are_excluded(loaded, tmp_path):
    assert loaded.excluded(5).toarray().tolist() == loaded.seen(5).toarray().tolist()
    (tmp_path / "params.yaml").write_text("rank: {exclude_history: false}\n")
    free = load_histories_for_ranking()
    assert free.excluded(5).shape == (3, 5)
    assert free.excluded(5).nnz == 0
    assert free.excluded(5, np.array([2])).shape == (1, 5)
    assert free.before_test().excluded(5).nnz == 0
    (tmp_path / "params.yaml").write_text("rank: {exclude_history: 'no'}\n")
    with pytest.raises(InputError, match=r"rank\.exclude_history: expected true or false; found 'no'"):
        load_histories_for_ranking()


def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended, stage("train@x"):
        raise InputError("a.csv", expected="b", found="c\nd", remedy="e", count=3, example="f")
    assert ended.value.code == 2
    line = "train@x: a.csv: expected b; found c d (3 affected), for example 'f'. Remedy: e\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_what_a_stage_cost_is_kept_per_preset(tmp_path):
    (tmp_path / "params.yaml").write_text("preset: small\n")
    with stage("train@x"):
        pass
    cost = json.loads((tmp_path / ".sidflow/measured/small/train@x.json").read_text())
    assert cost["stage"] == "train@x"
    assert cost["peak_memory_mb"] > 10


CHILD = "from sidflow.core.stage import peak_memory_mb; print(peak_memory_mb())"
LARGE = f"""
import os, sys
held = b"x" * 300_000_000
os.execv(sys.executable, [sys.executable, "-c", {CHILD!r}])
"""


@pytest.mark.skipif(not PROCESS_STATUS.is_file(), reason="needs Linux's /proc")
def test_peak_memory_is_not_that_of_the_process_before():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 200


def test_peak_memory_without_proc(monkeypatch, tmp_path):
    known = peak_memory_mb()
    monkeypatch.setattr(stage, "PROCESS_STATUS", tmp_path / "none")
    assert peak_memory_mb() > 0.9 * known


def test_a_torn_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "deep" / "file"
    with atomic_path(target) as temporary:
        temporary.write_text("old")

    def torn():
        with atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        torn()
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
