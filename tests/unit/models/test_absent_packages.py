"""Presets and stages that need a trained model whose package is not installed: one line that says what to do."""

import importlib.metadata

import pytest
from tests.unit.models.stage_runs import ROOT, run_stage, write_project

from sidflow.cli import presets
from sidflow.cli.models import missing_packages_line
from sidflow.core.params import read_yaml_mapping

PARTS = ROOT / "presets/parts"
MEANING = read_yaml_mapping(PARTS / "minilm.yaml")["embed"]["encoders"]["meaning"]
BACKBONE = read_yaml_mapping(PARTS / "smollm2.yaml")["backbone"]
MINILM, SMOLLM = MEANING["model"]["package"], BACKBONE["package"]


@pytest.fixture
def nothing_installed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)


WRITER = {"backend": "transformers", "model": {name: BACKBONE[name] for name in ("kind", "package", "file")}}


@pytest.mark.parametrize(
    ("stage", "section", "content", "package"),
    [
        ("embed", "embed", {"encoders": {"meaning": MEANING}}, MINILM),
        ("embed", "embed", {"encoders": {"tuned": {**MEANING, "kind": "contrastive"}}}, MINILM),
        ("describe", "describe", {"views": ["text"], "writer": WRITER}, SMOLLM),
        ("backbone", "backbone", BACKBONE, SMOLLM),
    ],
    ids=["meaning", "contrastive", "describe", "backbone"],
)
def test_a_stage_ends_with_one_line_and_exit_code_2(
    stage, section, content, package, nothing_installed, tmp_path, monkeypatch, capsys
):
    write_project(tmp_path, monkeypatch, **{section: content})
    with pytest.raises(SystemExit) as ended:
        run_stage(stage)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    (line,) = [one for one in printed.err.splitlines() if one.strip()]
    assert f"expected the installed package {package}; found none. Remedy: `make pretrained`" in line
    assert not list(tmp_path.glob("artifacts/reports/*")) and not list(tmp_path.glob("artifacts/embeddings/*"))


def test_a_preset_says_what_is_not_installed_and_what_installs_it(nothing_installed, monkeypatch):
    monkeypatch.chdir(ROOT)
    line = missing_packages_line(presets.compose("embedded-pretrained"))
    assert "\n" not in line and line.endswith("Remedy before `dvc repro`: `make pretrained`")
    assert f"{MINILM} (for embed.encoders.meaning)" in line and f"{SMOLLM} (for backbone)" in line
    assert missing_packages_line(presets.compose("embedded")) == ""


def test_packages_outside_of_the_lock_have_their_own_command_and_a_backbone_that_nobody_reads_none(
    nothing_installed, monkeypatch
):
    monkeypatch.chdir(ROOT)
    resolved = presets.compose("embedded-pretrained")
    model = (
        resolved.sections["embed"]
        .encoders["meaning"]
        .model.model_copy(update={"package": ("a==1", "b==2"), "file": ("a/x.1", "b/x.2")})
    )
    meaning = resolved.sections["embed"].encoders["meaning"].model_copy(update={"model": model})
    embed = resolved.sections["embed"].model_copy(update={"encoders": {"meaning": meaning}})
    top = resolved.top.model_copy(update={"semantic_ids": []})
    line = missing_packages_line(resolved._replace(top=top, sections=resolved.sections | {"embed": embed}))
    assert line.endswith("Remedy before `dvc repro`: `python -m pip install --no-deps a==1 b==2`")
    assert "a==1 (for embed.encoders.meaning)" in line and "backbone" not in line


def test_what_is_installed_needs_no_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sidflow.cli.models.find_package", lambda requirement, slot: None)
    assert missing_packages_line(presets.compose("embedded-pretrained")) == ""
