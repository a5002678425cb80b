"""Folders of sentence-transformers: every pooling, and Dense layers, against vectors that are computed by hand."""

import json
import math

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.numpy import save_file
from tests.unit.features.test_text_model import encoder, quiet, saved, unit
from tests.unit.mme_sid.conftest import tokenizer

from sidflow.core.errors import InputError
from sidflow.features.contrastive import encode_contrastively
from sidflow.features.params import ContrastiveEncoder
from sidflow.features.text_model import encode_documents
from sidflow.models.files import file_hashes
from sidflow.models.packages import weight_files
from sidflow.models.params import ModelParams

__all__ = ["quiet", "tokenizer"]

TEXTS = ["a red lamp. it glows", "blue chair", "a customer bought these products"]
DOCUMENTS = [(text,) for text in TEXTS]
GENERATOR = np.random.default_rng(0)
WIDE, NARROW = (GENERATOR.normal(size=shape).astype(np.float32) for shape in ((48, 32), (5, 48)))
BIAS = GENERATOR.normal(size=48).astype(np.float32)
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, 0),
    "torch.nn.modules.activation.GELU": np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
}
POOLINGS = {  # the param, the folder's own name, and the vector of a text's states
    "cls": ("cls_token", lambda states: states[0]),
    "mean": ("mean_tokens", lambda states: states.mean(0)),
    "max": ("max_tokens", lambda states: states.max(0)),
    "mean_sqrt_len": ("mean_sqrt_len_tokens", lambda states: states.sum(0) / math.sqrt(len(states))),
    "last": ("lasttoken", lambda states: states[-1]),
}


@pytest.fixture
def folder(tokenizer, tmp_path):
    return saved("bert", tokenizer, tmp_path / "model")


def write_modules(folder, *kinds, pooling="mean_tokens", newer=False, more=()):
    entries = [{"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "",
                "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(kinds)]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(entries))
    home = folder / f"{kinds.index('Pooling')}_Pooling"
    home.mkdir(exist_ok=True)
    older = {f"pooling_mode_{mode}": mode == pooling for mode, _ in POOLINGS.values()}
    own = {"pooling_mode": pooling.removesuffix("_tokens").removesuffix("_token")} if newer else older
    (home / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **own, **dict(more)}))


def write_dense(folder, place, weight, bias=None, activation="torch.nn.modules.activation.Tanh", **changes):
    (folder / place).mkdir(exist_ok=True)
    config = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None}
    (folder / place / "config.json").write_text(json.dumps(config | {"activation_function": activation} | changes))
    arrays = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
    save_file(arrays, folder / place / "model.safetensors")


def states_of(folder, tokenizer):
    """The last states of each text by itself, [t, d]."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(torch.tensor([tokenizer.encode(text)])).last_hidden_state[0].numpy() for text in TEXTS]


def vectors(folder, **options):
    return encode_documents(DOCUMENTS, encoder(folder, centre=False, **options), "x", 1).values


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_that_a_folder_names(folder, tokenizer, pooling, newer):
    name, by_hand = POOLINGS[pooling]
    write_modules(folder, "Transformer", "Pooling", "Normalize", pooling=name, newer=newer)
    expected = [unit(by_hand(states)) for states in states_of(folder, tokenizer)]
    np.testing.assert_allclose(vectors(folder, pooling=pooling), expected, atol=1e-5)
    other = "cls" if pooling != "cls" else "mean"
    with pytest.raises(InputError, match=f"pooling: {pooling}"):
        vectors(folder, pooling=other)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_layer_is_applied_with_its_activation(folder, tokenizer, activation):
    write_modules(folder, "Transformer", "Pooling", "Dense", "Normalize")
    write_dense(folder, "2_Dense", WIDE, BIAS, activation)
    expected = [unit(ACTIVATIONS[activation](WIDE @ states.mean(0) + BIAS)) for states in states_of(folder, tokenizer)]
    got = vectors(folder)
    assert got.shape == (3, 48)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "mean_sqrt_len"])
def test_a_dense_layer_reads_the_pooled_vector_at_its_own_length(folder, tokenizer, pooling):
    name, by_hand = POOLINGS[pooling]
    write_modules(folder, "Transformer", "Pooling", "Dense", pooling=name)
    write_dense(folder, "2_Dense", WIDE, BIAS)
    expected = [unit(np.tanh(WIDE @ by_hand(states) + BIAS)) for states in states_of(folder, tokenizer)]
    np.testing.assert_allclose(vectors(folder, pooling=pooling), expected, atol=1e-5)


def test_layers_are_applied_in_their_order_and_a_normalize_before_a_dense_counts(folder, tokenizer):
    write_modules(folder, "Transformer", "Pooling", "Normalize", "Dense", "Dropout", "Dense")
    write_dense(folder, "3_Dense", WIDE, BIAS)
    write_dense(folder, "5_Dense", NARROW, None, "torch.nn.modules.linear.Identity")
    by_hand = [NARROW @ np.tanh(WIDE @ unit(states.mean(0)) + BIAS) for states in states_of(folder, tokenizer)]
    np.testing.assert_allclose(vectors(folder), [unit(vector) for vector in by_hand], atol=1e-5)


def test_the_layers_files_are_recorded_and_their_weights_part_of_the_cache(folder):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    assert {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"} <= file_hashes(folder).keys()
    first = vectors(folder)
    write_dense(folder, "2_Dense", -2 * WIDE, BIAS)
    assert np.abs(vectors(folder) - first).max() > 0.1


def test_random_weights_are_random_in_dense_layers_too(folder):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    first = vectors(folder, weights="random")
    write_dense(folder, "2_Dense", 0 * WIDE, BIAS)
    np.testing.assert_allclose(vectors(folder, weights="random"), first, atol=1e-6)


def test_a_dense_layer_is_part_of_contrastive_training(folder):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    model = ModelParams(kind="path", path=str(folder))
    params = ContrastiveEncoder(kind="contrastive", model=model, epochs=1, centre=False, items_per_batch=2)
    documents = [("a red lamp", "it glows"), ("blue chair", "of oak"), ("a steel mug", "holds tea")]
    encoded = encode_contrastively(documents, params, "tuned", 1)
    assert encoded.values.shape == (3, 48) and np.isfinite(encoded.values).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "torch.nn.modules.activation.Softmax"}, "activation of torch.nn"),
        ({"activation": "somebody.layers.Tanh"}, "activation of torch.nn"),
        ({"in_features": 33}, "pooled vector of width 32"),
        ({"module_input_name": "token_embeddings"}, "on the pooled vector"),
        ({"out_features": 47}, r"'linear\.weight': \(47, 32\).*found.*\(48, 32\)"),
    ],
)
def test_a_dense_layer_that_cannot_be_applied_is_one_clear_line(folder, change, message):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    activation = change.pop("activation", "torch.nn.modules.activation.Tanh")
    write_dense(folder, "2_Dense", WIDE, BIAS, activation, **change)
    with pytest.raises(InputError, match=message) as raised:
        vectors(folder)
    assert "\n" not in raised.value.line()


def test_a_bias_that_the_config_does_not_have_is_refused(folder):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE)
    save_file({"linear.weight": WIDE, "linear.bias": BIAS}, folder / "2_Dense/model.safetensors")
    with pytest.raises(InputError, match=r"found.*'linear\.bias'"):
        vectors(folder)


def test_pickled_dense_weights_other_layers_and_paths_outside_are_refused(folder):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    (folder / "2_Dense/model.safetensors").rename(folder / "2_Dense/pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights are not read"):
        vectors(folder)
    write_modules(folder, "Transformer", "Pooling", "LayerNorm")
    with pytest.raises(InputError, match="a layer LayerNorm"):
        vectors(folder)
    entries = json.loads((folder / "modules.json").read_text())
    for place in ("../elsewhere", "/elsewhere", "a/b", ""):
        kinds = [entries[0], entries[1], {"type": "sentence_transformers.models.Dense", "path": place}]
        (folder / "modules.json").write_text(json.dumps(kinds))
        with pytest.raises(InputError, match="folders beside it"):
            vectors(folder)


@pytest.mark.parametrize("damage", ["cut", '["a"]', "{}", "[]", "link"])
def test_a_damaged_list_of_modules_is_one_clear_line(folder, damage):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    path = folder / "modules.json"
    whole = path.read_text()
    path.unlink()
    if damage == "link":
        path.symlink_to("nowhere")
    else:
        path.write_text(whole[:-3] if damage == "cut" else damage)
    with pytest.raises(InputError, match=r"modules\.json: expected the modules.*download") as raised:
        vectors(folder)
    assert "\n" not in raised.value.line()


@pytest.mark.parametrize(
    "damage", [None, '{"pooling_mode_mean_tokens": tr', "[]", "{}", '{"word_embedding_dimension": 32}']
)
def test_a_missing_or_damaged_pooling_is_one_clear_line(folder, damage):
    write_modules(folder, "Transformer", "Pooling")
    path = folder / "1_Pooling/config.json"
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    found = "none" if damage else "no such file"
    with pytest.raises(InputError, match=rf"1_Pooling/config\.json: expected the pooling.*found {found}") as raised:
        vectors(folder)
    assert "\n" not in raised.value.line()


def test_several_poolings_and_a_prompt_that_is_not_pooled_are_refused(folder):
    write_modules(folder, "Transformer", "Pooling", more={"pooling_mode_max_tokens": True})
    with pytest.raises(InputError, match=r"expected mean and max.*use another model"):
        vectors(folder)
    write_modules(folder, "Transformer", "Pooling", pooling="weightedmean_tokens", newer=True)
    with pytest.raises(InputError, match=r"expected weightedmean.*use another model"):
        vectors(folder)
    write_modules(folder, "Transformer", "Pooling", more={"include_prompt": False})
    with pytest.raises(InputError, match="include_prompt"):
        vectors(folder, prefix="query: ")
    assert vectors(folder).shape == (3, 32)


def test_a_packages_dense_weights_need_their_hash(folder, tmp_path, monkeypatch):
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    site = tmp_path / "site"
    (site / "tiny_dense-1.0.dist-info").mkdir(parents=True)
    folder.rename(site / "tiny_dense")
    (site / "tiny_dense-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: tiny_dense\nVersion: 1.0\n")
    files = [path.relative_to(site).as_posix() for path in sorted((site / "tiny_dense").rglob("*")) if path.is_file()]
    (site / "tiny_dense-1.0.dist-info/RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.syspath_prepend(str(site))
    hashes = file_hashes(site / "tiny_dense")
    sha256 = {name: hashes[name] for name in ("model.safetensors", "2_Dense/model.safetensors")}
    model = ModelParams(kind="package", package="tiny_dense==1.0", file="tiny_dense", sha256=sha256)
    assert weight_files(model, "x").keys() == sha256.keys()
    settings = encoder(folder).model_copy(update={"model": model})
    assert encode_documents(DOCUMENTS, settings, "x", 1).values.shape == (3, 48)
    del sha256["2_Dense/model.safetensors"]
    bare = settings.model_copy(update={"model": model.model_copy(update={"sha256": sha256})})
    with pytest.raises(InputError, match=r"2_Dense/model\.safetensors of tiny_dense==1\.0.*none given"):
        encode_documents(DOCUMENTS, bare, "x", 1)
