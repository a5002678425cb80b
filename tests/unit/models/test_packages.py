"""Models of installed packages: found by metadata, never imported, checked by hash, turned once into a folder."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from sidflow.backbones.models import load_backbone, record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.core.errors import InputError
from sidflow.models import unpacking
from sidflow.models.files import model_folder
from sidflow.models.params import ModelParams

ROOT = Path(__file__).parents[3]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def zipped(saved, site, tmp_path):
    """Params of a model that is a zip in a package."""
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(saved.iterdir()):
            target.write(path, f"inside/{path.name}")
        target.writestr("inside/evil.py", "raise SystemExit")
        target.writestr("inside/pooling/config.json", "{}")
        target.writestr("inside/pooling/deeper/config.json", "{}")
    site("tiny_zip", {"model.zip": archive})
    return ModelParams(
        kind="package", package="tiny_zip==1.0", file="tiny_zip/model.zip", sha256={"model.zip": sha256(archive)}
    )


def backbone_of(model, **more):
    return BackboneParams(**model.model_dump(), **more)


def test_a_folder_of_a_package_is_read_where_it_is(saved, site):
    home = site("tiny_folder", {f"data/{path.name}": path for path in saved.iterdir()})
    model = ModelParams(
        kind="package",
        package="tiny_folder==1.0",
        file="tiny_folder/data",
        sha256={"model.safetensors": sha256(saved / "model.safetensors")},
    )
    assert model_folder(model, "backbone") == home / "data"
    record = record_of_pretrained(backbone_of(model))
    assert (record["kind"], record["package"], record["layers"]) == ("package", "tiny_folder==1.0", 3)
    assert str(home) not in json.dumps(record)
    loaded, expected = load_backbone(record).model, LlamaForCausalLM.from_pretrained(saved)
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(loaded(ids).logits, expected(ids).logits)
    (home / "data/model.safetensors").write_bytes((saved / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(InputError, match=r"sha256, model\.safetensors of tiny_folder==1\.0"):
        load_backbone(record)


def test_a_zip_becomes_a_folder_once(zipped, saved):
    folder = model_folder(zipped, "backbone")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {unpacking.CONTENT, "pooling/config.json", *(path.name for path in saved.iterdir())}
    before = (folder / "model.safetensors").stat().st_ino
    assert model_folder(zipped, "backbone") == folder
    assert (folder / "model.safetensors").stat().st_ino == before
    load_backbone(record_of_pretrained(backbone_of(zipped)))


def test_a_made_folder_says_what_it_was_made_of_and_under_which_licence(zipped, tmp_path):
    folder = model_folder(zipped, "backbone")
    content = json.loads((folder / unpacking.CONTENT).read_text())
    assert content["package"] == ["tiny_zip==1.0"] and content["file"] == ["tiny_zip/model.zip"]
    assert content["sha256"] == zipped.sha256
    assert content["licence"] == "not stated"
    assert content["files"]["model.safetensors"] == sha256(folder / "model.safetensors")
    assert str(tmp_path) not in (folder / unpacking.CONTENT).read_text()
    before = (folder / "model.safetensors").stat().st_ino
    assert model_folder(zipped.model_copy(update={"licence": "MIT"}), "backbone") == folder
    assert json.loads((folder / unpacking.CONTENT).read_text()) == content | {"licence": "MIT"}
    assert (folder / "model.safetensors").stat().st_ino == before


@pytest.mark.parametrize("harm", ["half", "changed", "extra", "no content"])
def test_a_harmed_folder_is_made_anew_and_leftovers_are_removed(zipped, harm):
    folder = model_folder(zipped, "backbone")
    weights = (folder / "model.safetensors").read_bytes()
    if harm == "half":
        (folder / "model.safetensors").write_bytes(weights[:100])
    elif harm == "changed":
        (folder / "config.json").write_text("{}")
    elif harm == "extra":
        (folder / "adapter_config.json").write_text("{}")
    else:
        (folder / unpacking.CONTENT).unlink()
    leftover = folder.parent / f".{folder.name}.abc" / "made"
    leftover.mkdir(parents=True)
    assert model_folder(zipped, "backbone") == folder
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not (folder / "adapter_config.json").exists()
    assert not leftover.exists()


def test_a_process_killed_while_it_unpacks_leaves_nothing_visible(zipped, tmp_path):
    code = (
        "import os, signal, shutil, sys\n"
        "from sidflow.models import packages, unpacking\n"
        "from sidflow.models.params import ModelParams\n"
        "copy = shutil.copyfileobj\n"
        "def killed(packed, target):\n"
        "    copy(packed, target)\n"
        "    if target.name.endswith('model.safetensors'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "unpacking.shutil.copyfileobj = killed\n"
        "packages.package_folder(ModelParams.model_validate_json(sys.argv[1]), 'backbone')\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path / 'site'}"}
    done = subprocess.run([sys.executable, "-c", code, zipped.model_dump_json()], env=environment, capture_output=True)
    assert done.returncode == -9
    home = tmp_path / "cache/models"
    assert not [path for path in home.iterdir() if path.is_dir() and not path.name.startswith(".")]
    folder = model_folder(zipped, "backbone")
    assert [path for path in home.iterdir() if path.is_dir()] == [folder]


def test_what_is_not_here_or_not_as_recorded_is_one_clear_line(zipped, site, saved, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"pickled")
    site("tiny_pickled", {"m/pytorch_model.bin": tmp_path / "w.bin", "m/config.json": saved / "config.json"})
    for change, message in [
        ({"package": "tiny_zip"}, "expected name==version"),
        ({"package": "absent_model==1.0"}, "found none. Remedy: `make pretrained`"),
        ({"package": "tiny_zip==2.0"}, "found version 1.0"),
        ({"file": ""}, "expected a folder with safetensors, a .gguf or a .zip"),
        ({"file": "tiny_zip/other.zip"}, "found 'tiny_zip/other.zip'"),
        ({"file": "../saved"}, "found '../saved'"),
        ({"package": "tiny_pickled==1.0", "file": "tiny_pickled/m"}, "found pickled weights.*pytorch_model.bin"),
        ({"sha256": {}}, "none given; the file has [0-9a-f]{64}"),
        ({"sha256": {"model.zip": "0" * 64}}, "expected 0{64}; found [0-9a-f]{64}"),
        ({"sha256": zipped.sha256 | {"second.zip": "0" * 64}}, "second.zip of tiny_zip==1.0.*no such file"),
    ]:
        with pytest.raises(InputError, match=message) as raised:
            model_folder(zipped.model_copy(update=change), "backbone")
        assert "\n" not in raised.value.line()
    assert not (tmp_path / "cache/models").exists()


@pytest.mark.parametrize("content", ["cut", "no model", "two models", "pickled"])
def test_a_zip_of_something_else_is_one_clear_line_and_leaves_no_folder(saved, site, tmp_path, content):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for home in {"no model": [], "two models": ["a", "b"]}.get(content, ["a"]):
            for path in saved.iterdir():
                name = "pytorch_model.bin" if content == "pickled" and path.suffix == ".safetensors" else path.name
                target.write(path, f"{home}/{name}")
    if content == "cut":
        archive.write_bytes(archive.read_bytes()[:-50])
    site("tiny_bad", {"bad.zip": archive})
    model = ModelParams(
        kind="package", package="tiny_bad==1.0", file="tiny_bad/bad.zip", sha256={"bad.zip": sha256(archive)}
    )
    with pytest.raises(InputError, match="a zip with one model folder"):
        model_folder(model, "backbone")
    assert not [path for path in (tmp_path / "cache/models").iterdir() if path.is_dir()]


def test_a_gguf_file_without_its_reader_says_so(site, tmp_path, monkeypatch):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    site("tiny_gguf", {"m.gguf": tmp_path / "m.gguf"})
    monkeypatch.setattr(unpacking.importlib.util, "find_spec", lambda name: None)
    hashes = {"m.gguf": sha256(tmp_path / "m.gguf")}
    model = ModelParams(kind="package", package="tiny_gguf==1.0", file="tiny_gguf/m.gguf", sha256=hashes)
    with pytest.raises(InputError, match=r"expected the package gguf.*make pretrained"):
        model_folder(model, "backbone")


def test_the_first_layers_are_kept_and_recorded(saved):
    ids = torch.tensor([[3, 4, 5, 6]])
    whole = LlamaForCausalLM.from_pretrained(saved)
    record = record_of_pretrained(BackboneParams(kind="path", path=str(saved), layers=2))
    assert record["layers"] == 2
    cut = load_backbone(record).model
    assert cut.config.num_hidden_layers == 2
    states = whole.model(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(cut.model(ids).last_hidden_state, whole.model.norm(states[2]))
    with pytest.raises(InputError, match=r"at most the model's 3; found 4"):
        record_of_pretrained(BackboneParams(kind="path", path=str(saved), layers=4))


def test_random_weights_have_the_same_shape_and_depend_on_the_seed_alone(saved):
    settings = BackboneParams(kind="path", path=str(saved), weights="random", layers=2)
    records = [record_of_pretrained(settings, seed) for seed in (1, 1, 2)]
    assert records[0] == records[1] != records[2]
    torch.manual_seed(9)
    first, again, other = (load_backbone(record).model.state_dict() for record in records)
    after = torch.randn(3)
    torch.manual_seed(9)
    torch.testing.assert_close(after, torch.randn(3))  # the caller's generator is as it was
    trained = load_backbone(record_of_pretrained(BackboneParams(kind="path", path=str(saved), layers=2))).model
    assert {name: value.shape for name, value in first.items()} == {
        name: value.shape for name, value in trained.state_dict().items()
    }
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], trained.state_dict()[name])
