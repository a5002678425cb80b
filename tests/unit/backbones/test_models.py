import importlib.util
import json

import pytest
import torch
from tests.unit.models.hub_server import serving
from transformers import AutoConfig, AutoModelForCausalLM

from sidflow.backbones.models import load_backbone, record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.core.errors import InputError
from sidflow.models import files

BITS = "bitsandbytes"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(params=["llama", "qwen2", "qwen3", "mistral", "gemma2"])
def folder(request, tiny, tokenizer, tmp_path):
    path = tmp_path / "model"
    tiny.model(request.param, len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_folder_is_recorded_by_hash_and_loaded(folder, tiny):
    about = record_of_pretrained(BackboneParams(kind="path", path=str(folder)))
    assert about["hidden_size"] == tiny.hidden
    assert about["family"] == AutoConfig.from_pretrained(folder).model_type
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(about["files"])
    model, tokenizer = load_backbone(about)
    assert not any(p.requires_grad for p in model.parameters())
    expected = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(model(ids).logits, expected(ids).logits)
    assert tokenizer.decode(tokenizer.encode("a lamp")) == "a lamp"
    assert next(load_backbone(about, "bf16").model.parameters()).dtype == torch.bfloat16


def test_changed_files_are_refused(folder):
    about = record_of_pretrained(BackboneParams(kind="path", path=str(folder)))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(InputError, match=r"records.*config\.json"):
        load_backbone(about)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors"):
        record_of_pretrained(BackboneParams(kind="path", path=str(folder)))


def unknown(content):
    return json.dumps(content | {"model_type": "novel"})


def of_its_own_code(content):
    return json.dumps(content | {"model_type": "novel", "auto_map": {"AutoConfig": "own.Config"}})


def nameless(content):
    return json.dumps({key: value for key, value in content.items() if key not in ("model_type", "architectures")})


def broken(content):
    return json.dumps(content)[:-20]


def encoder_decoder(content):
    return json.dumps({"model_type": "t5", "vocab_size": content["vocab_size"]})


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("config", "says"),
    [
        (unknown, "without remote code; found ValueError: .*novel"),
        (of_its_own_code, "without remote code; found ValueError"),
        (nameless, "without remote code; found ValueError: .*model_type"),
        (broken, "without remote code; found OSError: .*config.json"),
        (encoder_decoder, "expected a causal LM; found a model of type t5"),
    ],
)
def test_a_folder_of_something_else_is_one_clear_line(folder, config, says):
    path = folder / "config.json"
    path.write_text(config(json.loads(path.read_text())))
    with pytest.raises(InputError, match=says):
        record_of_pretrained(BackboneParams(kind="path", path=str(folder)))


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_files_that_cannot_be_read_are_one_clear_line(folder):
    settings = BackboneParams(kind="path", path=str(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="a tokenizer that transformers reads"):
        load_backbone(record_of_pretrained(settings))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="found SafetensorError"):
        record_of_pretrained(settings)


def test_remote_code_never_runs(folder, tmp_path):
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    content = json.loads((folder / "config.json").read_text())
    content["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(content))
    load_backbone(record_of_pretrained(BackboneParams(kind="path", path=str(folder))))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kind": "path"}, "model folder"),
        ({"kind": "path", "path": "nowhere"}, "no such folder"),
        ({"kind": "hub", "repo": "meta-llama", "commit": COMMIT}, "owner/name"),
        ({"kind": "hub", "repo": "a/b"}, "40 hex digits"),
        ({"kind": "hub", "repo": "a/b", "commit": "main"}, "40 hex digits"),
        ({"kind": "hub", "repo": "a/b", "commit": COMMIT.upper()}, "40 hex digits"),
    ],
)
def test_bad_choices_are_one_clear_line(params, message):
    with pytest.raises(InputError, match=message):
        record_of_pretrained(BackboneParams(**params))


def test_a_hub_model_is_taken_at_its_commit(folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    (cache / "models--owner--name" / "snapshots" / ("f" * 40)).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(files, "hub_cache", lambda: str(cache))
    with serving(folder, "owner/name", COMMIT, monkeypatch):
        about = record_of_pretrained(BackboneParams(kind="hub", repo="owner/name", commit=COMMIT))
    assert (about["repo"], about["commit"], about["path"]) == ("owner/name", COMMIT, "")
    assert str(tmp_path) not in json.dumps(about)
    load_backbone(about)
    with pytest.raises(InputError, match=r"hub model owner/name.*HF_HUB_OFFLINE"):
        record_of_pretrained(BackboneParams(kind="hub", repo="owner/name", commit="a" * 40))


def test_four_bits_need_bitsandbytes(folder, monkeypatch):
    about = record_of_pretrained(BackboneParams(kind="path", path=str(folder)))
    find = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: find(name, *more) if name != BITS else None)
    with pytest.raises(InputError, match=r"nf4.*no bitsandbytes.*bf16"):
        load_backbone(about, "nf4")


def test_four_bits_need_cuda(folder, monkeypatch):
    about = record_of_pretrained(BackboneParams(kind="path", path=str(folder)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"nf4.*no CUDA device"):
        load_backbone(about, "nf4")
