"""`sidflow models`: the slots of params.yaml and the packages of the lock, here or not."""

import pytest
from ruamel.yaml import YAML

from sidflow.cli.models import model_lines
from sidflow.models import packages


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(bytes(3_000_000))
    (tmp_path / "requirements-pretrained.lock").write_text("# models\nabsent-model==1.0 --hash=sha256:00\n")
    encoders = {
        "text": {"kind": "tfidf_svd", "space": "item"},
        "meaning": {
            "kind": "transformer",
            "model": {"kind": "package", "package": "absent-model==1.0", "file": "x", "licence": "MIT"},
        },
    }

    def write(**backbone):
        sections = {"describe": {}, "embed": {"encoders": encoders}, "backbone": backbone}
        with (tmp_path / "params.yaml").open("w") as handle:
            YAML().dump(sections, handle)
        return {line.split()[0]: line.split(maxsplit=1)[1] for line in model_lines()}

    return write


def test_every_slot_says_what_stands_in_it_and_whether_it_is_here(project):
    lines = project(kind="path", path="model", weights="random", licence="Apache-2.0")
    assert lines["describe.writer"].split() == ["rules", "no", "trained", "weights"]
    assert lines["embed.encoders.text"].endswith("no trained weights")
    assert lines["embed.encoders.meaning"].endswith("not installed: `make pretrained`, licence MIT")
    assert lines["backbone"].endswith("here, 3 MB, licence Apache-2.0, random weights")
    assert lines["package"].split(maxsplit=1) == ["absent-model==1.0", "not installed: `make pretrained`"]
    assert project(kind="path", path="elsewhere")["backbone"].endswith("not here, licence not stated")
    assert project()["backbone"].endswith("trained here")


def test_an_installed_package_has_its_size(project, tmp_path):
    import numpy

    (tmp_path / "requirements-pretrained.lock").write_text(f"numpy=={numpy.__version__}\n")
    assert packages.find_package(f"numpy=={numpy.__version__}", "x").version == numpy.__version__
    assert "installed, " in project()["package"] and "licence BSD-3-Clause" in project()["package"]
