"""Text embeddings by trained models: tiny ones of several families, through the real loading code."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from tests.unit.mme_sid.conftest import tokenizer
from transformers.utils import logging

from sidflow.core.errors import InputError
from sidflow.features.params import EmbedParams, TransformerEncoder
from sidflow.features.transformer import encode_documents
from sidflow.models.params import ModelParams

__all__ = ["tokenizer"]

DOCUMENTS = [("a red lamp.", "it glows"), ("blue chair",), (), ("a customer bought these products " * 4,), (" ",)]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.fixture(params=["bert", "llama"])
def folder(request, tokenizer, tmp_path):
    request.addfinalizer(logging.enable_progress_bar)
    logging.disable_progress_bar()
    torch.manual_seed(0)
    if request.param == "bert":
        made = hf.BertModel(hf.BertConfig(vocab_size=len(tokenizer), initializer_range=0.3, **SIZES))
    else:
        made = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **SIZES))
    made.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def encoder(folder, weights="pretrained", **more):
    return TransformerEncoder(
        kind="transformer", model=ModelParams(kind="path", path=str(folder), weights=weights), **more
    )


def alone(folder, tokenizer, text, pooling, max_tokens=256):
    """The vector of one text by itself, without padding."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer.encode(text)[:max_tokens]])
    states = model(input_ids=ids).last_hidden_state[0]
    vector = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    return torch.nn.functional.normalize(vector, dim=0).detach().numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_each_vector_is_that_of_its_text_alone(folder, tokenizer, pooling):
    found = encode_documents(DOCUMENTS, encoder(folder, pooling=pooling, centre=False, prefix="query "), "x", 1)
    assert found.present.tolist() == [True, True, False, True, False]
    assert not found.values[~found.present].any()
    for row, text in {0: "a red lamp. it glows", 1: "blue chair", 3: DOCUMENTS[3][0]}.items():
        np.testing.assert_allclose(found.values[row], alone(folder, tokenizer, f"query {text}", pooling), atol=1e-5)


def test_centred_vectors_have_length_1_around_the_mean(folder):
    plain = encode_documents(DOCUMENTS, encoder(folder, centre=False), "x", 1)
    centred = encode_documents(DOCUMENTS, encoder(folder), "x", 1)
    np.testing.assert_allclose(np.linalg.norm(centred.values[centred.present], axis=1), 1, atol=1e-6)
    assert np.abs(centred.values[[0, 1, 3]] @ plain.values[[0, 1, 3]].mean(0)).max() < 1


def test_batches_and_long_texts(folder, tokenizer):
    one = encode_documents(DOCUMENTS, encoder(folder, batch_size=1), "x", 1)
    all_at_once = encode_documents(DOCUMENTS, encoder(folder, batch_size=64), "x", 1)
    np.testing.assert_allclose(one.values, all_at_once.values, atol=1e-5)
    cut = encode_documents(DOCUMENTS, encoder(folder, max_tokens=5, centre=False), "x", 1)
    np.testing.assert_allclose(cut.values[3], alone(folder, tokenizer, DOCUMENTS[3][0], "mean", 5), atol=1e-5)


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


def test_a_transformer_needs_no_text_space():
    params = EmbedParams(spaces={}, encoders={"meaning": encoder("folder")})
    assert list(params.encoders) == ["meaning"]
