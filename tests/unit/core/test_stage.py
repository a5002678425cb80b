"""Running a stage: errors in one line, its cost, peak memory."""

import time

import pytest

from sidflow.core.errors import InputError
from sidflow.core.stage import seconds_spent, stage


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended, stage("train@x"):
        raise InputError("a.csv", expected="b", found="c\nd", remedy="e", count=3, example="f")
    assert ended.value.code == 2
    line = "train@x: a.csv: expected b; found c d (3 affected), for example 'f'. Remedy: e\n"
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_a_clock_that_is_set_changes_no_time_that_is_kept(monkeypatch):
    before = seconds_spent()
    real = time.time
    for days in (-3650, 3650):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * 86_400)
        assert before <= seconds_spent() < before + 600
