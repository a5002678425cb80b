"""The command line: thin, fast to start, one line and exit code 2 for bad input."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidflow.cli import doctor, presets, verify
from sidflow.cli.app import app
from sidflow.cli.dvc import dvc_cache_folder
from sidflow.cli.params import _outermost

runner = CliRunner()


def test_the_start_imports_nothing_heavy() -> None:
    code = "import sys, sidflow.cli; print([m for m in ('torch', 'polars', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["preset", "doctor", "models", "recommend", "show", "compare", "verify"])
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
    assert runner.invoke(app, ["preset", "apply", "embedded"]).exit_code == 0
    assert presets.preset_text("embedded") == Path("params.yaml").read_text()


def test_params_are_printed_with_their_origin(small_project) -> None:
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("size: 8", "size: 9"))
    lines = runner.invoke(app, ["params", "train.quick"]).stdout.splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["train.quick.rate: 0.0003", "preset embedded", "per step"],
        ["train.quick.size: 9", "edited in params.yaml", "width"],
    ]
    every = runner.invoke(app, ["params"]).stdout
    assert re.search(r"(?m)^ingest\.seed: 7 +default +of the words$", every)
    assert re.search(r"(?m)^recommenders: \[quick, slow\] +from the sections", every)
    bad = runner.invoke(app, ["params", "trian"])
    assert bad.stderr.startswith("params.yaml: expected one of the names train, ")


def test_params_whose_lines_are_all_long_are_printed(small_project) -> None:
    name = "very_" * 12
    preset = f"# Mine.\nextends: embedded\ntrain: {{{name}: {{rate: 1}}}}\n"
    (small_project / "presets" / "mine.yaml").write_text(preset)
    Path("params.yaml").write_text(presets.preset_text("mine"))
    lines = runner.invoke(app, ["params", f"train.{name}"]).stdout.splitlines()
    assert lines == [f"train.{name}.rate: 1.0  preset mine  per step", f"train.{name}.size: 4  default      width"]


def test_one_section_is_compared_with_a_preset(small_project) -> None:
    assert runner.invoke(app, ["params", "train.third", "--diff", "other"]).stdout == "train.third: only in other\n"
    none = runner.invoke(app, ["params", "train.quick", "--diff", "other"])
    assert none.stdout == "No knob of train.quick differs from preset other.\n"
    bad = runner.invoke(app, ["params", "trian", "--diff", "other"])
    assert bad.exit_code == 2 and "found `trian`. Remedy: correct the name" in bad.stderr


def test_a_value_here_and_knobs_there_are_compared() -> None:
    assert _outermost("train.slow.hybrid.weight", ["train.slow.hybrid"]) == "train.slow.hybrid.weight"
    assert _outermost("train.slow.hybrid", ["train.slow.hybrid.weight"]) == "train.slow.hybrid"
    assert _outermost("train.slow.hybrid.weight", ["train.quick"]) == "train.slow"


def test_params_are_compared_with_a_preset(small_project) -> None:
    assert runner.invoke(app, ["params", "--diff", "embedded"]).stdout == (
        "No knob of params.yaml differs from preset embedded.\n"
    )
    lines = runner.invoke(app, ["params", "--diff", "other"]).stdout.splitlines()
    assert lines == [
        "ingest.source: synthetic, in other: files",
        "train.slow: only in params.yaml",
        "train.third: only in other",
    ]
    runner.invoke(app, ["preset", "apply", "other", "--data", str(small_project.parent / "data/other")])
    assert re.search(r"ingest\.path: \S+ +--data ", runner.invoke(app, ["params", "ingest"]).stdout)


def test_the_doctor_finds_what_is_broken(dvc_project, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "3")
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "3.0 (from SIDFLOW_CHECKPOINT_SECONDS)" in result.stdout
    assert "9 of 9 are here" in result.stdout
    assert "Everything required is in place." in result.stdout
    Path("words.txt").unlink()
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "many")
    monkeypatch.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check.__name__ == "_runtime"])
    monkeypatch.setattr(
        doctor, "PROJECT_CHECKS", [check for check in doctor.PROJECT_CHECKS if check.__name__ == "_params"]
    )
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "words.txt is not there" in result.stdout
    assert "2 required things are broken." in result.stdout


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("artifacts", "", r"BROKEN +artifacts +/\S+/artifacts is a file in place of a folder; move it away"),
        (".dvc/tmp/rwlock", "", r"BROKEN +dvc lock +\.dvc/tmp/rwlock is cut.*remove it"),
        ("dvc.lock", "stages: {", r"BROKEN +dvc lock +dvc\.lock is cut or no YAML; `git checkout dvc\.lock`"),
        ("dvc.lock", "", r"BROKEN +dvc lock +dvc\.lock is cut or no YAML"),
    ],
)
def test_the_doctor_names_the_file_that_stops_dvc(dvc_project, monkeypatch, path, content, says) -> None:
    if Path(path).is_dir():
        shutil.rmtree(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    own = ("_dvc_locks", "_artifacts")
    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(doctor, "PROJECT_CHECKS", [one for one in doctor.PROJECT_CHECKS if one.__name__ in own])
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert re.search(says, result.stdout), result.stdout


def test_the_doctor_outside_of_a_project_looks_at_the_machine(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        doctor, "CHECKS", [check for check in doctor.CHECKS if check.__name__ in ("_python", "_project")]
    )
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "info     project  none in this folder" in result.stdout
    Path("dvc.yaml").write_text("stages: {}\n")  # half a project
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "found no params.yaml. Remedy: `sidflow preset apply embedded` writes it" in result.stdout
    assert "1 required thing is broken." in result.stdout


NEED_A_PROJECT = [
    "preset list",
    "preset show embedded",
    "preset apply embedded",
    "params",
    "recommend --user u-1",
    "show item k-1",
    "compare HEAD",
    "verify",
]


@pytest.mark.parametrize("typed", NEED_A_PROJECT)
def test_outside_of_a_project_every_command_says_the_same(typed, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, typed.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("this folder: expected a sidflow project (")
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_below_a_project_its_root_is_named(small_project, monkeypatch) -> None:
    monkeypatch.chdir("presets")
    assert f"Remedy: cd {small_project}" in runner.invoke(app, ["preset", "list"]).stderr
    assert runner.invoke(app, ["--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("fo", "sidflow: expected one of the commands preset, recommenders, params, doctor, models and 9 more;"),
        ("preset aply x", "sidflow preset: expected one of the commands apply, list, show; found `aply`."),
        ("recommend --usr x", "sidflow recommend: expected one of the options --user, "),
        ("recommend --user", "sidflow recommend: expected a value after --user; found none."),
        ("recommend --json=3", "sidflow recommend: expected --json without a value; found one."),
        ("recommend -k many", "sidflow recommend: expected an integer >= 1 after -k; found 'many'."),
        ("ablations --seed x", "sidflow ablations: expected an integer >= 0 after --seed; found 'x'."),
        ("assign-new", "sidflow assign-new: expected FOLDER; found none."),
        ("recommend -k 0", "sidflow recommend: expected an integer >= 1 after -k; found '0'."),
        ("show item", "sidflow show item: expected KEY; found none. Remedy: `sidflow show item --help`"),
        ("merge", "sidflow merge: expected --out; found none. Remedy: `sidflow merge --help`"),
        ("preset list x y", "sidflow preset list: expected nothing more; found x y."),
    ],
)
def test_what_is_typed_wrongly_is_one_line(typed, said) -> None:
    result = runner.invoke(app, typed.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(said)
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("typed", [[], ["preset"], ["show"], ["responses"]])
def test_a_group_alone_prints_its_help(typed) -> None:
    result = runner.invoke(app, typed)
    assert result.exit_code == 2
    assert "Commands:" in result.stderr
    assert not [line for line in result.stderr.splitlines()[1:] if line.endswith("...")]  # each purpose fits its line


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
    assert dvc_cache_folder() == (dvc_project / ".dvc/cache").resolve()


@pytest.mark.pipeline
def test_verify_tells_of_a_stage_that_fails(dvc_project) -> None:
    Path("rank.py").write_text("raise SystemExit('no')\n")
    result = runner.invoke(app, ["verify", "--here"])
    assert result.exit_code == 1
    assert "The rerun failed" in result.stdout


def test_doctor_names_a_dvc_of_another_environment(tmp_path, monkeypatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "dvc_executable", lambda: tmp_path / "dvc")
    monkeypatch.setattr(importlib.metadata, "version", version)
    (finding,) = doctor._dvc()
    assert (finding.mark, finding.text) == ("ok", str(tmp_path / "dvc"))


def test_doctor_says_which_runtime_settings_are_not_set(small_project) -> None:
    texts = {finding.name.removeprefix("runtime "): finding.text for finding in doctor._runtime()}
    for name in ("responses", "server", "token_budget"):
        assert texts[name].startswith("not set (default; ")
    assert texts["input_price"].startswith("0.0 (default; ")


def test_doctor_finds_a_file_in_place_of_the_cache_folder(small_project, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_CACHE", str(small_project / "params.yaml/cache"))
    (finding,) = [finding for finding in doctor._runtime() if finding.name == "cache folder"]
    assert finding.mark == "BROKEN" and "params.yaml is a file" in finding.text


def test_doctor_says_whose_code_runs(small_project) -> None:
    (mine,) = doctor._code()
    assert mine.mark == "ok" and str(Path(doctor.__file__).resolve().parents[3]) in mine.text
    (small_project / "src/sidflow").mkdir(parents=True)
    (other,) = doctor._code()
    assert other.mark == "warning" and "not that of this folder, which `dvc repro` runs" in other.text
