"""Models whose file is cut across several installed packages: joined in order, checked by hash, taken apart safely."""

import hashlib
import zipfile

import pytest
import torch
from pydantic import ValidationError
from tests.unit.models.test_pretrained import needs_gguf, write_gguf
from transformers import LlamaConfig, LlamaForCausalLM

from sidflow.backbones.models import load_backbone, record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.core.errors import InputError
from sidflow.core.params import validate_params
from sidflow.models import unpacking
from sidflow.models.files import model_folder, model_of_record, origin
from sidflow.models.params import ModelParams
from sidflow.semantics.params import TransformersParams


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cut(site, tmp_path):
    """Cut a file across two installed packages, and return the params that name it."""

    def params(whole, at=0.4):
        content = whole.read_bytes()
        middle = int(len(content) * at)
        hashes = {"joined": digest(content)}
        for number, part in enumerate((content[:middle], content[middle:]), start=1):
            name = f"model.part{number}"
            (tmp_path / name).write_bytes(part)
            hashes[name] = digest(part)
            site(f"tiny_part{number}", {f"data/{name}": tmp_path / name})
        return ModelParams(
            kind="package",
            package=("tiny_part1==1.0", "tiny_part2==1.0"),
            file=("tiny_part1/data/model.part1", "tiny_part2/data/model.part2"),
            sha256=hashes,
        )

    return params


@pytest.fixture
def archive(saved, tmp_path):
    whole = tmp_path / "model.zip"
    with zipfile.ZipFile(whole, "w") as target:
        for path in sorted(saved.iterdir()):
            target.write(path, f"inside/{path.name}")
        target.writestr("inside/1_Pooling/config.json", "{}")
        target.writestr("inside/2_Dense/config.json", "{}")
        target.writestr("inside/2_Dense/model.safetensors", b"weights")
    return whole


def backbone_of(model, **more):
    return BackboneParams(**model.model_dump(), **more)


def test_a_zip_cut_across_two_packages_becomes_one_folder_once(cut, archive, saved):
    model = cut(archive)
    folder = model_folder(model, "backbone")
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    further = {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"}
    assert inside == {unpacking.CONTENT, *further, *(path.name for path in saved.iterdir())}
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]  # the whole file is gone
    before = (folder / "model.safetensors").stat().st_ino
    assert model_folder(model, "backbone") == folder
    assert (folder / "model.safetensors").stat().st_ino == before
    record = record_of_pretrained(backbone_of(model))
    assert model_of_record(origin(model)) == model
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(
        load_backbone(record).model(ids).logits, LlamaForCausalLM.from_pretrained(saved)(ids).logits
    )


@needs_gguf
@pytest.mark.pretrained
def test_a_gguf_file_cut_across_two_packages_becomes_one_folder(cut, tokenizer, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **sizes, **heads)
    model = LlamaForCausalLM(config)
    write_gguf(tmp_path / "m.gguf", model, tokenizer)
    loaded = load_backbone(record_of_pretrained(backbone_of(cut(tmp_path / "m.gguf"))))
    assert torch.equal(loaded.model.model.embed_tokens.weight, model.model.embed_tokens.weight)
    assert loaded.tokenizer.encode("a red lamp", add_special_tokens=False) == tokenizer.encode("a red lamp")


def test_a_missing_part_a_changed_one_and_another_order_are_one_clear_line(cut, archive, site, tmp_path):
    model = cut(archive)
    (tmp_path / "other").write_bytes(b"x")
    site("tiny_other", {"other": tmp_path / "other"})
    first, second = model.file
    for change, message in [
        ({"package": ("tiny_part1==1.0", "absent_part==1.0")}, "the installed package absent_part==1.0; found none"),
        ({"package": "tiny_part1==1.0"}, "parts that tiny_part1==1.0 have; found 'tiny_part2/data/model.part2'"),
        ({"package": (*model.package, "tiny_other==1.0")}, "packages that each have a part; found tiny_other==1.0"),
        ({"file": (first, "tiny_part2/data/model.part3")}, "found 'tiny_part2/data/model.part3'"),
        ({"file": (second, first)}, f"joined: expected {digest(archive.read_bytes())}; found [0-9a-f]{{64}} of the"),
        ({"sha256": model.sha256 | {"model.part2": "0" * 64}}, "model.part2 of tiny_part1==1.0 and 1 more: expected 0"),
        ({"sha256": model.sha256 | {"joined": "0" * 64}}, "joined: expected 0{64}; found"),
    ]:
        with pytest.raises(InputError, match=message) as raised:
            model_folder(model.model_copy(update=change), "backbone")
        assert "\n" not in raised.value.line()
    (tmp_path / "site/tiny_part2/data/model.part2").unlink()
    with pytest.raises(InputError, match=r"model\.part2 of .*no such file"):
        model_folder(model, "backbone")
    made = tmp_path / "cache/models"
    assert not [path for path in made.iterdir() if path.is_dir()]


def test_params_of_parts_are_checked_before_anything_is_read():
    parts = {"package": ["a==1", "b==1"], "file": ["a/x.1", "b/x.2"], "sha256": {"x.1": "0", "x.2": "1", "joined": "2"}}
    for change, message in [
        ({"file": "a/x.1"}, "`package` as one name==version"),
        ({"file": ["a/x.1"]}, "two or more parts"),
        ({"file": ["a/x.1", "b/x.1"]}, "different names; found x.1, x.1"),
        ({"package": ["a==1", "a==1"]}, "each package once"),
        ({"package": []}, "each package once; found none"),
        ({"sha256": {"x.1": "0", "x.2": "1"}}, "none for `joined`"),
        ({"sha256": parts["sha256"] | {"x.3": "0"}}, "another name `x.3`"),
    ]:
        for owner in (ModelParams, BackboneParams):
            content = {"kind": "package", **parts, **change}
            with pytest.raises(InputError, match=message) as raised:
                validate_params(content, owner, "params.yaml:backbone")
            assert "\n" not in raised.value.line()
    whole = ModelParams(kind="package", **parts)
    assert BackboneParams(kind="package", **parts).model == whole
    with pytest.raises(ValidationError, match=r"x\.3"):
        TransformersParams(
            backend="transformers", model={"kind": "package", **parts, "sha256": parts["sha256"] | {"x.3": "0"}}
        )


@pytest.mark.parametrize(
    "name", ["../evil.json", "/evil.json", "inside/../../evil.json", "inside/sub/../../../evil.json"]
)
def test_an_archive_whose_names_lead_out_of_it_is_refused(cut, archive, tmp_path, name):
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(name, "{}")
    with pytest.raises(InputError, match="a name that leads out of it"):
        model_folder(cut(archive), "backbone")
    assert not list(tmp_path.rglob("evil.json"))


def test_parts_and_archives_that_are_too_large_are_refused(cut, archive, monkeypatch, tmp_path):
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
        target.writestr("inside/zeros.json", bytes(20_000_000))
    model = cut(packed)
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", packed.stat().st_size - 1)
    with pytest.raises(InputError, match="parts of at most 0 GB together"):
        model_folder(model, "backbone")
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", packed.stat().st_size + 1)
    with pytest.raises(InputError, match=r"a zip with one model folder.*more than 0 GB"):
        model_folder(model, "backbone")


def test_parts_that_make_something_else_are_refused(cut, tmp_path):
    (tmp_path / "pickle").write_bytes(b"\x80\x04 pickled weights")
    with pytest.raises(InputError, match="parts that make a GGUF file or a zip; found a file that begins with"):
        model_folder(cut(tmp_path / "pickle"), "backbone")
