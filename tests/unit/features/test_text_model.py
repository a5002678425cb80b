"""Text embeddings by trained models: tiny ones of several families, through the real loading code."""

import json
import sqlite3

import numpy as np
import pytest
import torch
import transformers as hf
from tests.unit.mme_sid.conftest import tokenizer
from transformers.utils import logging

from sidflow.core.errors import InputError
from sidflow.features import text_model
from sidflow.features.params import EmbedParams, TransformerEncoder, TransformerUnits
from sidflow.features.text_model import encode_documents, encode_units
from sidflow.models.params import ModelParams

__all__ = ["tokenizer"]

LONG = "a customer bought these products " * 4
DOCUMENTS = [("a red lamp.", "it glows"), ("blue chair",), (), (LONG,), (" ",)]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def tiny(family, words):
    if family == "bert":
        return hf.BertModel(hf.BertConfig(vocab_size=words, initializer_range=0.3, **SIZES))
    if family == "mpnet":
        config = hf.MPNetConfig(vocab_size=words, initializer_range=0.3, max_position_embeddings=130, **SIZES)
        return hf.MPNetModel(config)
    if family == "t5":
        return hf.T5Model(hf.T5Config(vocab_size=words, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4))
    if family == "qwen":
        return hf.Qwen3ForCausalLM(
            hf.Qwen3Config(vocab_size=words, initializer_range=0.3, num_key_value_heads=2, head_dim=8, **SIZES)
        )
    return hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=words, initializer_range=0.3, **SIZES))


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path, request):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    request.addfinalizer(logging.enable_progress_bar)
    logging.disable_progress_bar()


def saved(family, tokenizer, folder):
    torch.manual_seed(0)
    tiny(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tokenizer, tmp_path):
    return saved("bert", tokenizer, tmp_path / "model")


def encoder(folder, weights="pretrained", kind=TransformerEncoder, **more):
    name = {TransformerEncoder: "transformer", TransformerUnits: "transformer_units"}[kind]
    return kind(kind=name, model=ModelParams(kind="path", path=str(folder), weights=weights), **more)


def alone(folder, tokenizer, text, pooling="mean", start=0, stop=256, before=()):
    """The vector of one text by itself, without padding, not scaled."""
    whole = hf.AutoModel.from_pretrained(folder).eval()
    model = whole.encoder if whole.config.is_encoder_decoder else whole
    ids = torch.tensor([[*before, *tokenizer.encode(text)[start:stop]]])
    with torch.inference_mode():
        states = model(input_ids=ids).last_hidden_state[0]
    return {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


FAMILIES = [("bert", "cls"), ("bert", "mean"), ("mpnet", "mean"), ("llama", "last"), ("qwen", "last"), ("t5", "mean")]


@pytest.mark.parametrize(("family", "pooling"), FAMILIES)
def test_each_vector_is_that_of_its_text_alone(family, pooling, tokenizer, tmp_path):
    folder = saved(family, tokenizer, tmp_path / "model")
    options = {"pooling": pooling, "centre": False, "prefix": "query ", "max_tokens": 128}
    found = encode_documents(DOCUMENTS, encoder(folder, **options), "x", 1)
    assert found.present.tolist() == [True, True, False, True, False]
    assert not found.values[~found.present].any()
    for row, text in {0: "a red lamp. it glows", 1: "blue chair", 3: LONG}.items():
        expected = unit(alone(folder, tokenizer, f"query {text}", pooling))
        np.testing.assert_allclose(found.values[row], expected, atol=1e-5)


def test_centred_vectors_have_length_1_around_the_mean(folder):
    plain = encode_documents(DOCUMENTS, encoder(folder, centre=False), "x", 1)
    centred = encode_documents(DOCUMENTS, encoder(folder), "x", 1)
    np.testing.assert_allclose(np.linalg.norm(centred.values[centred.present], axis=1), 1, atol=1e-6)
    before, after = (one.values[one.present].sum(0) for one in (plain, centred))
    assert np.square(after).sum() < 0.5 * np.square(before).sum()


def test_long_texts_are_the_mean_of_their_chunks_by_length(folder, tokenizer):
    words = tokenizer.encode(LONG)
    assert len(words) > 12
    prefix = tokenizer.encode("query", add_special_tokens=False)
    room, overlap = 12 - len(prefix), 2
    whole = encode_documents(
        [(LONG,)], encoder(folder, prefix="query", max_tokens=12, overlap=overlap, max_chunks=100, centre=False), "x", 1
    )
    ids = tokenizer.encode("query" + LONG)[len(prefix) :]
    assert tokenizer.encode("query" + LONG)[: len(prefix)] == prefix
    total, weight, start = np.zeros(32), 0, 0
    while True:
        piece = ids[start : start + room]
        text = tokenizer.decode(piece)
        vector = alone_ids(folder, [*prefix, *piece])
        total, weight = total + vector * len(piece), weight + len(piece)
        assert text
        if start + room >= len(ids):
            break
        start += room - overlap
    np.testing.assert_allclose(whole.values[0], unit(total / weight), atol=1e-5)
    cut = encode_documents([(LONG,)], encoder(folder, max_tokens=12, max_chunks=1, centre=False), "x", 1)
    np.testing.assert_allclose(cut.values[0], unit(alone_ids(folder, words[:12])), atol=1e-5)


def alone_ids(folder, ids):
    model = hf.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()


def test_units_are_the_vectors_of_their_texts(folder):
    settings = encoder(folder, kind=TransformerUnits, centre=False, units=3)
    found = encode_units([("a red lamp", "blue chair"), (), ("blue chair",)], 3, settings, "x", 1)
    assert found.values.shape == (3, 3, 32)
    assert found.present.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    assert np.array_equal(found.values[0, 1], found.values[2, 0])
    np.testing.assert_allclose(
        found.values[0, 0], encode_documents([("a red lamp",)], encoder(folder, centre=False), "x", 1).values[0], atol=0
    )


def test_the_same_bytes_with_an_empty_a_full_and_a_half_full_cache(folder, tmp_path, monkeypatch):
    settings = encoder(folder, batch_tokens=64)
    many = [(f"a {colour} lamp number {number}",) for number in range(7) for colour in ("red", "blue")] + DOCUMENTS
    fresh = encode_documents(many, settings, "x", 1)
    runs = []
    pooled = text_model.TextModel._pooled

    def counted(self, network, batch, length):
        runs.append(len(batch))
        return pooled(self, network, batch, length)

    monkeypatch.setattr(text_model.TextModel, "_pooled", counted)
    again = encode_documents(many, settings, "x", 1)
    assert runs == []  # everything came from the cache
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    encode_documents(many[3::2], settings, "x", 1)
    halfway = sum(runs)
    half = encode_documents(many, settings, "x", 1)
    assert sum(runs) - halfway == 17 - halfway  # only the others
    assert fresh.values.tobytes() == again.values.tobytes() == half.values.tobytes()


def test_the_same_bytes_with_one_worker_and_with_several(folder, tmp_path, monkeypatch):
    settings = encoder(folder, batch_tokens=32)
    many = [(f"a lamp number {number} " * (1 + number % 5),) for number in range(23)]
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / str(threads)))
            runs.append(encode_documents(many, settings, "x", 1).values.tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert runs[0] == runs[1]


def test_texts_as_long_as_the_model_reads_have_the_vectors_of_themselves_alone(tokenizer, tmp_path):
    folder = saved("mpnet", tokenizer, tmp_path / "model")  # 128 positions
    settings = encoder(folder, max_tokens=128, batch_tokens=256, centre=False, max_chunks=1)
    many = [(f"{number} {LONG * 4}",) for number in range(3)]
    whole = encode_documents(many, settings, "x", 1)
    limit = {"start": 0, "stop": 128}
    for (text,), vector in zip(many, whole.values, strict=True):
        np.testing.assert_allclose(vector, unit(alone(folder, tokenizer, text, **limit)), atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_bf16_is_near_fp32_and_kept_apart_in_the_cache(family, tokenizer, tmp_path):
    folder = saved(family, tokenizer, tmp_path / "model")
    whole, half = (encode_documents(DOCUMENTS, encoder(folder, dtype=one, centre=False), "x", 1).values
                   for one in ("fp32", "bf16"))  # fmt: skip
    assert not np.array_equal(whole, half)
    assert (whole * half).sum(1)[[0, 1, 3]].min() > 0.999


def test_a_killed_run_keeps_its_batches(folder, monkeypatch, tmp_path):
    settings = encoder(folder, batch_tokens=16, centre=False)
    pooled, calls = text_model.TextModel._pooled, []

    def failing(self, network, batch, length):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(batch)
        return pooled(self, network, batch, length)

    many = [(f"lamp {number}",) for number in range(7)]
    monkeypatch.setattr(text_model.TextModel, "_pooled", failing)
    with pytest.raises(KeyboardInterrupt):
        encode_documents(many, settings, "x", 1)
    with sqlite3.connect(tmp_path / "cache/vectors.sqlite") as kept:
        assert kept.execute("SELECT count(*) FROM vectors").fetchone() == (4,)
    monkeypatch.setattr(text_model.TextModel, "_pooled", pooled)
    resumed = encode_documents(many, settings, "x", 1)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    assert resumed.values.tobytes() == encode_documents(many, settings, "x", 1).values.tobytes()


def test_random_weights_are_one_param_away_and_recorded(folder):
    trained, first, again, other = (
        encode_documents(DOCUMENTS, encoder(folder, weights), "x", seed)
        for weights, seed in (("pretrained", 1), ("random", 1), ("random", 1), ("random", 2))
    )
    assert (trained.record["trained_weights"], first.record["trained_weights"]) == (True, False)
    assert np.array_equal(first.values, again.values)
    assert not np.allclose(first.values, other.values)
    assert not np.allclose(first.values, trained.values)
    assert set(trained.record["model"]["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_nothing_to_encode_gives_empty_rows(folder):
    found = encode_documents([(), (" ",)], encoder(folder), "x", 1)
    assert found.values.shape == (2, 32)
    assert not found.present.any()


def test_models_that_cannot_be_used_are_one_clear_line(folder):
    for change, message in [
        (lambda: (folder / "config.json").write_text(json.dumps({"model_type": "novel"})), "without remote code"),
        (lambda: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "weights as .*safetensors"),
    ]:
        change()
        with pytest.raises(InputError, match=message):
            encode_documents(DOCUMENTS, encoder(folder), "x", 1)
    with pytest.raises(InputError, match=r"embed\.encoders\.x\.model\.path"):
        encode_documents(DOCUMENTS, encoder(""), "x", 1)


def test_limits_of_a_model_are_checked_before_it_runs(tokenizer, tmp_path):
    folder = saved("mpnet", tokenizer, tmp_path / "model")  # 130 positions, of which 2 are never used
    with pytest.raises(InputError, match=r"max_tokens: expected at most 128.*found 129"):
        encode_documents(DOCUMENTS, encoder(folder, max_tokens=129), "x", 1)
    with pytest.raises(InputError, match=r"encoders\.x\.prefix"):
        encode_documents(DOCUMENTS, encoder(folder, max_tokens=8, prefix=LONG), "x", 1)


@pytest.mark.parametrize(
    ("layers", "pooling", "message"),
    [
        (["Transformer", "Pooling", "Normalize"], {"pooling_mode_mean_tokens": True}, None),
        (["Transformer", "Pooling"], {"pooling_mode": "mean"}, None),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            "pooling: cls",
        ),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling: max"),
        (["Transformer", "Pooling", "LayerNorm"], {"pooling_mode_mean_tokens": True}, "a layer LayerNorm"),
    ],
)
def test_layers_of_a_sentence_transformers_folder_are_not_left_out_silently(folder, layers, pooling, message):
    entries = [
        {"type": f"sentence_transformers.models.{layer}", "path": f"{n}_{layer}"} for n, layer in enumerate(layers)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    if message is None:
        assert encode_documents(DOCUMENTS, encoder(folder), "x", 1).present.any()
    else:
        with pytest.raises(InputError, match=message):
            encode_documents(DOCUMENTS, encoder(folder), "x", 1)


def test_a_transformer_needs_no_text_space():
    params = EmbedParams(spaces={}, encoders={"meaning": encoder("folder")})
    assert list(params.encoders) == ["meaning"]
