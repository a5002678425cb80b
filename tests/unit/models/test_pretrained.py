"""The trained models of the preset `embedded-pretrained`, and GGUF files, where `make pretrained` has run."""

import hashlib
import importlib.util
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.models.stage_runs import run_stage, write_project
from tests.unit.semantics.test_rules import item, items_table
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.features import DESCRIBE_REPORT, EMBEDDING, SEMANTICS, read_item_rows
from sidflow.backbones.models import load_backbone, record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.backbones.usable import check_backbone
from sidflow.core.errors import InputError
from sidflow.core.params import read_yaml_mapping
from sidflow.features.params import TransformerEncoder
from sidflow.features.text_model import encode_documents, encode_texts
from sidflow.models import packages
from sidflow.models.files import model_folder
from sidflow.models.params import ModelParams
from sidflow.semantics import transformers_writer
from sidflow.semantics.store import open_store

ROOT = Path(__file__).parents[3]
PARTS = ROOT / "presets/parts"
MINILM = TransformerEncoder(**read_yaml_mapping(PARTS / "minilm.yaml")["embed"]["encoders"]["meaning"])
SMOLLM = BackboneParams(**read_yaml_mapping(PARTS / "smollm2.yaml")["backbone"] | {"layers": None})
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def needs(requirement):
    try:
        packages.find_package(requirement, "test")
        missing = False
    except InputError:
        missing = True
    return pytest.mark.skipif(missing, reason=f"{requirement} is not installed (`make pretrained`)")


needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="gguf is not installed (`make pretrained`)"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def cache(models, own_cache, monkeypatch):
    """One cache for all tests here, so that a model is turned into a folder once."""
    monkeypatch.setenv("SIDFLOW_CACHE", str(models))


def write_gguf(path, model, tokenizer):
    """Write a Llama and its byte-level BPE as llama.cpp does; query and key rows stay in the order of transformers."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.all_special_tokens)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    tops = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    tops |= {"lm_head.weight": "output.weight"}
    for name, tensor in model.state_dict().items():
        if name in tops:
            target = tops[name]
        else:
            _, _, layer, *rest = name.split(".")
            target = f"blk.{layer}.{names['.'.join(rest[:-1])]}.weight"
        writer.add_tensor(target, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@needs_gguf
@pytest.mark.pretrained
def test_a_gguf_file_becomes_a_folder_with_the_same_weights(tmp_path, tokenizer, monkeypatch):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **SHAPE))
    home = tmp_path / "site/tiny_gguf"
    home.mkdir(parents=True)
    write_gguf(home / "m.gguf", model, tokenizer)
    info = home.parent / "tiny_gguf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny_gguf\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_gguf/m.gguf,,\n")
    monkeypatch.syspath_prepend(str(home.parent))
    digest = hashlib.sha256((home / "m.gguf").read_bytes()).hexdigest()
    settings = BackboneParams(
        kind="package", package="tiny_gguf==1.0", file="tiny_gguf/m.gguf", sha256={"m.gguf": digest}
    )
    found = load_backbone(record_of_pretrained(settings))
    expected = model.state_dict()
    assert found.model.state_dict().keys() == expected.keys()
    for name, tensor in found.model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # llama.cpp has their rows in another order
            torch.testing.assert_close(tensor.sort(0).values, expected[name].sort(0).values)
        else:
            torch.testing.assert_close(tensor, expected[name])
    assert found.tokenizer.encode("a red lamp", add_special_tokens=False) == tokenizer.encode("a red lamp")
    check_backbone(found, 50, model_folder(settings.model, "backbone"))


@needs_gguf
@pytest.mark.pretrained
def test_a_broken_gguf_file_is_one_clear_line(tmp_path, monkeypatch):
    home = tmp_path / "site/bad_gguf"
    (home.parent / "bad_gguf-1.0.dist-info").mkdir(parents=True)
    home.mkdir()
    (home / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    (home.parent / "bad_gguf-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: bad_gguf\nVersion: 1.0\n"
    )
    (home.parent / "bad_gguf-1.0.dist-info/RECORD").write_text("bad_gguf/m.gguf,,\n")
    monkeypatch.syspath_prepend(str(home.parent))
    digest = hashlib.sha256((home / "m.gguf").read_bytes()).hexdigest()
    model = ModelParams(kind="package", package="bad_gguf==1.0", file="bad_gguf/m.gguf", sha256={"m.gguf": digest})
    with pytest.raises(InputError, match="expected a GGUF file of a causal LM"):
        model_folder(model, "backbone")


@needs(MINILM.model.package)
@pytest.mark.pretrained
def test_minilm_knows_what_words_mean():
    documents = [("a crimson evening gown",), ("a red dress for a party",), ("a hose for the garden",)]
    values = encode_documents(documents, MINILM.model_copy(update={"centre": False}), "meaning", 1).values
    assert values.shape == (3, 384)
    similar = values @ values.T
    assert similar[0, 1] > 0.5 > similar[0, 2]
    control = MINILM.model_copy(
        update={"centre": False, "model": MINILM.model.model_copy(update={"weights": "random"})}
    )
    assert not np.allclose(encode_documents(documents, control, "meaning", 1).values, values, atol=0.1)


SENTENCES = [
    "This framework generates embeddings for each input sentence",
    "a red dress for a party",
    "A hose for the garden, 20 m long.",
]
# Made by the network written out in numpy, in float64, from the weights' file; ids are of the tokenizer's own library.
REFERENCE = [
    [-0.013717, -0.042852, -0.015629, 0.014054, 0.039554, 0.121796, 0.029433, -0.031752],
    [-0.027193, 0.002151, -0.037788, 0.065949, -0.054256, 0.061013, 0.096855, -0.054312],
    [-0.020702, 0.086759, 0.043802, -0.04408, 0.042229, -0.029484, -0.022137, 0.038384],
]
COSINES = [[1.0, 0.059439, 0.080845], [0.059439, 1.0, 0.153247], [0.080845, 0.153247, 1.0]]


@needs(MINILM.model.package)
@pytest.mark.pretrained
def test_minilm_s_vectors_are_those_of_the_network_written_out_by_hand():
    params = MINILM.model_copy(update={"centre": False})
    values = encode_texts(SENTENCES, params, "meaning", 1).values
    np.testing.assert_allclose(values[:, :8], REFERENCE, atol=2e-5)
    np.testing.assert_allclose(values @ values.T, COSINES, atol=2e-5)
    folder = model_folder(MINILM.model, "meaning")
    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for value, sentence in zip(values, SENTENCES, strict=True):
        with torch.inference_mode():
            states = model(torch.tensor([words.encode(sentence)])).last_hidden_state[0].numpy()
        pooled = states.sum(axis=0) / len(states)
        np.testing.assert_allclose(value, pooled / np.sqrt((pooled**2).sum()), atol=2e-5)


@needs_gguf
@needs(SMOLLM.package)
@pytest.mark.pretrained
def test_smollm2_knows_english_and_is_a_backbone():
    record = record_of_pretrained(SMOLLM)
    assert (record["layers"], record["hidden_size"], record["licence"]) == (30, 576, "Apache-2.0")
    backbone = load_backbone(record)
    ids = torch.tensor([backbone.tokenizer.encode("The capital of France is", add_special_tokens=False)])
    assert backbone.tokenizer.decode(backbone.model(ids).logits[0, -1].argmax()).strip() == "Paris"
    del backbone
    cut = load_backbone(record_of_pretrained(SMOLLM.model_copy(update={"layers": 2})))
    assert cut.model.config.num_hidden_layers == 2
    check_backbone(cut, 50, model_folder(SMOLLM.model, "backbone"))


@needs_gguf
@needs(SMOLLM.package)
@pytest.mark.pretrained
def test_smollm2_writes_the_text_view_through_the_stage(tmp_path, monkeypatch):
    model = SMOLLM.model.model_dump(mode="json", exclude={"path", "repo", "commit"})
    writer = {"backend": "transformers", "model": model, "max_tokens": 24, "attempts": 1}
    describe = {"views": ["text"], "writer": writer, "max_failed_share": 1.0}
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(tmp_path / "responses.sqlite"))
    write_project(tmp_path, monkeypatch, describe=describe)
    run_stage("describe")
    report, table = DESCRIBE_REPORT.read(), SEMANTICS.at().read_bytes()
    assert report["writer"] == f"{SMOLLM.package}@{next(iter(SMOLLM.sha256.values()))}"
    assert report["writer_licence"] == "Apache-2.0" and SMOLLM.package in report["writer_origin"]
    assert report["text_input_tokens"] > 300 and report["text_output_tokens"] > 30  # three items have words
    with open_store(tmp_path / "responses.sqlite") as store:
        assert store.size().responses == 3
    with sqlite3.connect(tmp_path / "responses.sqlite") as kept:
        texts = [str(row) for row in kept.execute("SELECT * FROM responses")]
    assert len(set(texts)) == 3 and any("red mug" in text for text in texts)
    monkeypatch.setattr(transformers_writer, "load_prompted", None)  # everything is in the store
    run_stage("describe")
    assert (DESCRIBE_REPORT.read(), SEMANTICS.at().read_bytes()) == (report, table)


@needs(MINILM.model.package)
@pytest.mark.pretrained
def test_minilm_is_fine_tuned_for_an_epoch_through_the_stage(tmp_path, monkeypatch):
    model = MINILM.model.model_dump(mode="json", exclude={"path", "repo", "commit"})
    tuned = {"kind": "contrastive", "model": model, "epochs": 1, "warmup_steps": 0, "centre": False}
    plain = {"kind": "transformer", "model": model, "centre": False}
    write_project(tmp_path, monkeypatch, embed={"encoders": {"tuned": tuned, "plain": plain}})
    ITEMS_TABLE.write(
        items_table(
            item(0, "Red mug", "Holds tea.", "Kiln", ["kitchen"]),
            item(1, "Blue lamp", "It glows.", "Lux", ["light"]),
            item(2),
            item(3, "Oak chair", "For four.", "Wood", ["seats"]),
        )
    )
    run_stage("embed")
    first, second = (read_item_rows(EMBEDDING.at(name=name)) for name in ("tuned", "plain"))
    assert first.present.tolist() == second.present.tolist() == [True, True, False, True]
    lengths = np.linalg.norm(first.values, axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1], atol=1e-5)
    moved = np.abs(first.values - second.values).max()
    assert 1e-5 < moved < 0.5  # an epoch of one step moves the vectors, and spoils none
