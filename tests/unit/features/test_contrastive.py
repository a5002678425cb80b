"""Fine-tuning of text models on a catalogue, on tiny models of an encoder and of a decoder."""

import numpy as np
import pytest
import torch
from tests.unit.features.test_text_model import saved
from tests.unit.mme_sid.conftest import tokenizer
from transformers.utils import logging

from sidflow.core.errors import InputError
from sidflow.features import contrastive
from sidflow.features.contrastive import ContrastiveModel, ContrastiveModule, encode_contrastively, view, with_adapters
from sidflow.features.encode import run_encoders
from sidflow.features.params import ContrastiveEncoder, EmbedParams
from sidflow.models.files import file_hashes
from sidflow.models.params import ModelParams

__all__ = ["tokenizer"]

NOUNS = ("lamp", "chair", "mug", "table", "watch", "shoe", "ring", "scarf")
MATERIALS = ("steel", "oak", "clay", "wool", "gold", "jute", "linen", "brass")
# each item has three pieces of its own, and pieces that all items share, which draw their vectors together
SHARED = ("a customer bought these products", "shop")
DOCUMENTS = [
    (f"{noun}s", f"made of {MATERIALS[row]}", f"{noun} {MATERIALS[row]} {noun}", *SHARED)
    for row, noun in enumerate(NOUNS)
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path, request):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    request.addfinalizer(logging.enable_progress_bar)
    logging.disable_progress_bar()


def params_of(folder, **changes):
    training = {"epochs": 100, "learning_rate": 4e-3, "warmup_steps": 5, "temperature": 0.2, "drop": 0.2}
    settings = training | {"items_per_batch": 8, "lora": {"rank": 16, "alpha": 16}} | changes
    return ContrastiveEncoder(kind="contrastive", model=ModelParams(kind="path", path=str(folder)), **settings)


def encode(folder, documents=DOCUMENTS, **changes):
    return encode_contrastively(documents, params_of(folder, **changes), "tuned", 3)


def views_that_meet(folder, **changes):
    """Return the share of views whose nearest vector among all items' other views is their own item's."""
    generator = torch.Generator().manual_seed(11)
    halves = [[tuple(view(document, 0.2, generator)) for document in DOCUMENTS] for _ in range(2)]
    tuned = ContrastiveModel(DOCUMENTS, params_of(folder, **changes), "tuned", 3)
    texts = [contrastive.joined_text(pieces) for half in halves for pieces in half]
    first, second = np.split(contrastive.encode_by(tuned, texts).values, 2)
    return float(((first @ second.T).argmax(1) == np.arange(len(DOCUMENTS))).mean())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_views_of_one_item_become_nearest(family, tokenizer, tmp_path):
    folder = saved(family, tokenizer, tmp_path / family)
    pooling = "mean" if family == "bert" else "last"
    assert views_that_meet(folder, pooling=pooling) > views_that_meet(folder, pooling=pooling, epochs=0) + 0.1


@pytest.fixture
def folder(tokenizer, tmp_path):
    return saved("bert", tokenizer, tmp_path / "model")


def test_adapters_alone_are_trained_and_the_folder_stays(folder, monkeypatch):
    before, trained = file_hashes(folder), {}
    fit = contrastive.fit

    def watched(name, task, *rest, **settings):
        start = {name: weight.detach().clone() for name, weight in task.module.named_parameters()}
        result = fit(name, task, *rest, **settings)
        trained.update({name: not torch.equal(weight, start[name]) for name, weight in task.module.named_parameters()})
        return result

    monkeypatch.setattr(contrastive, "fit", watched)
    encoded = encode(folder, epochs=2)
    changed = {name for name, moved in trained.items() if moved}
    assert changed and all("lora_" in name for name in changed)
    assert not any("pooler" in name for name in trained if "lora_" in name)
    assert file_hashes(folder) == before
    assert encoded.record["trained_weights"] and encoded.present.all()


def test_training_moves_the_vectors_and_a_second_run_trains_nothing(folder, monkeypatch):
    untuned, tuned = encode(folder, epochs=0), encode(folder, epochs=3)
    assert np.abs(untuned.values - tuned.values).max() > 0.01
    monkeypatch.setattr(contrastive, "fit", None)
    again = encode(folder, epochs=3)
    assert again.values.tobytes() == tuned.values.tobytes() and again.record == tuned.record


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_bytes(folder, monkeypatch, tmp_path, capsys):
    whole = encode(folder, epochs=4, items_per_batch=4)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0")
    fit = contrastive.fit

    def killed(*arguments, **settings):
        def stop(steps):
            if steps == 6:
                raise Killed

        return fit(*arguments, **settings, on_step=stop)

    monkeypatch.setattr(contrastive, "fit", killed)
    with pytest.raises(Killed):
        encode(folder, epochs=4, items_per_batch=4)
    monkeypatch.setattr(contrastive, "fit", fit)
    capsys.readouterr()
    resumed = encode(folder, epochs=4, items_per_batch=4)
    assert "resumed at epoch 3" in capsys.readouterr().out
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert not list((tmp_path / "other").rglob("checkpoints/*"))


def test_a_run_killed_while_encoding_keeps_its_training(folder, monkeypatch, tmp_path, capsys):
    changes = {"epochs": 3, "items_per_batch": 4, "batch_tokens": 64}
    whole = encode(folder, **changes)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    pooled, batches = ContrastiveModel._pooled, []

    def killed(*arguments):
        batches.append(arguments)
        if len(batches) == 2:
            raise Killed
        return pooled(*arguments)

    monkeypatch.setattr(ContrastiveModel, "_pooled", killed)
    with pytest.raises((Killed, InputError)):
        encode(folder, **changes)
    monkeypatch.setattr(ContrastiveModel, "_pooled", pooled)
    capsys.readouterr()
    resumed = encode(folder, **changes)
    printed = capsys.readouterr().out
    assert "resumed at epoch 4" in printed and "epoch 1/3" not in printed
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert not list((tmp_path / "other").rglob("checkpoints/*"))


def test_items_of_equal_text_do_not_repel_each_other(folder):
    twins = [("red lamp", "steel"), ("red lamp", "steel"), ("blue chair", "oak")]
    params = params_of(folder, drop=0.0)
    model = ContrastiveModel(twins, params, "tuned", 3)
    network = with_adapters(contrastive.TextModel.network(model), params).eval()
    module = ContrastiveModule(network, model, twins, params)
    with torch.no_grad():
        pair = module(contrastive.Batch([0, 2], 1))["loss"]
        both = module(contrastive.Batch([0, 1, 2], 1))["loss"]
    assert torch.isfinite(both) and both < pair + 0.5  # a twin that repels costs log 2 for two of three items
    alone = ContrastiveModule(network, model, [("red lamp", "steel"), ("red lamps", "steel"), twins[2]], params)
    with torch.no_grad():
        assert alone(contrastive.Batch([0, 1, 2], 1))["loss"] > both


def test_a_view_leaves_pieces_out_and_never_all():
    generator = torch.Generator().manual_seed(0)
    views = [view(DOCUMENTS[0], 0.5, generator) for _ in range(200)]
    assert all(views) and len({len(pieces) for pieces in views}) > 3
    assert all(pieces == [piece for piece in DOCUMENTS[0] if piece in pieces] for pieces in views)
    assert 2.0 < np.mean([len(pieces) for pieces in views]) < 3.0
    assert len(view(DOCUMENTS[0], 0.999, generator)) == 1


def test_a_catalogue_of_single_pieces_is_refused(folder):
    with pytest.raises(InputError, match="kind: transformer"):
        encode(folder, [("lamp",), ("chair",), ("mug", "clay")])


def test_it_is_an_encoder_of_params(folder, tokenizer):
    from tests.unit.semantics.test_rules import item, items_table

    from sidflow.artifacts.catalog import IMAGES
    from sidflow.artifacts.features import SEMANTICS

    items = items_table(item(0, "Red mug", "Holds tea."), item(1, "Blue lamp", "It glows."), item(2))
    params = EmbedParams(encoders={"tuned": params_of(folder, epochs=1)})
    (output,) = run_encoders(items, IMAGES.empty(), SEMANTICS.empty(), params, 42)
    assert output.arrays["present"].tolist() == [True, True, False]
    assert output.metadata["encoder"]["kind"] == "contrastive" and output.metadata["trained_weights"]
