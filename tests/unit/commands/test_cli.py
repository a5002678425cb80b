"""The command line: thin, fast to start, one line and exit code 2 for bad input."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidflow.cli import app
from sidflow.commands import doctor, dvc, presets, verify

runner = CliRunner()


def test_the_start_imports_nothing_heavy() -> None:
    code = "import sys, sidflow.cli; print([m for m in ('torch', 'polars', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["preset", "doctor", "recommend", "show", "results", "verify"])
def test_help_says_what_each_command_does(command) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_presets_through_the_command_line(small_project) -> None:
    assert "* embedded" in runner.invoke(app, ["preset", "list"]).stdout
    assert runner.invoke(app, ["preset", "show", "other"]).stdout == Path("presets/other.yaml").read_text()
    bad = runner.invoke(app, ["preset", "apply", "other"])
    assert (bad.exit_code, len(bad.stderr.splitlines())) == (2, 1)
    good = runner.invoke(app, ["preset", "apply", "other", "--data", str(small_project.parent / "data/other")])
    assert good.exit_code == 0, good.output
    assert "dvc repro" in good.stdout
    assert "* other" in runner.invoke(app, ["preset", "list"]).stdout
    assert runner.invoke(app, ["preset", "refresh"]).exit_code == 2
    runner.invoke(app, ["preset", "apply", "embedded"])
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("0.1", "0.3"))
    assert runner.invoke(app, ["preset", "refresh"]).exit_code == 0
    assert presets.compose("embedded") == Path("params.yaml").read_text()


def test_the_doctor_finds_what_is_broken(dvc_project, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_WORKERS", "3")
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "3 (from SIDFLOW_WORKERS)" in result.stdout
    assert "9 of 9 are here" in result.stdout
    assert "Everything required is in place." in result.stdout
    Path("words.txt").unlink()
    monkeypatch.setenv("SIDFLOW_WORKERS", "many")
    monkeypatch.setattr(doctor, "LOOKS", [look for look in doctor.LOOKS if look.__name__ in ("_runtime", "_params")])
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "words.txt is not there" in result.stdout
    assert "2 required things are broken." in result.stdout


@pytest.mark.pipeline
def test_verify_compares_every_hash(dvc_project) -> None:
    Path("words.txt").write_text("not committed")
    result = runner.invoke(app, ["verify"])  # the commit is what is verified
    assert result.exit_code == 0, result.output
    assert "9 artifacts are the same, 0 differ." in result.stdout
    here = verify.verify(here=True)
    assert not here.same
    assert {one.path for one in here.artifacts if one.committed == one.remade} == set()
    assert not list(Path().glob("own-cache"))
    assert dvc.cache_folder() == (dvc_project / ".dvc/cache").resolve()


@pytest.mark.pipeline
def test_verify_tells_of_a_stage_that_fails(dvc_project) -> None:
    Path("rank.py").write_text("raise SystemExit('no')\n")
    result = runner.invoke(app, ["verify", "--here"])
    assert result.exit_code == 1
    assert "The rerun failed" in result.stdout
