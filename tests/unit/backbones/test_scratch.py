import numpy as np
import polars as pl
import pytest
import torch

from sidflow.backbones.params import PretrainingLoop, ScratchParams
from sidflow.backbones.scratch import (
    history_documents,
    item_documents,
    item_titles,
    pack_blocks,
    special_token_ids,
    train_scratch_backbone,
    train_tokenizer,
)
from sidflow.training.devices import prepare_training

PARAMS = ScratchParams(
    hidden=16,
    heads=2,
    layers=1,
    feedforward=32,
    vocabulary=300,
    block_tokens=16,
    batch_blocks=8,
    loop=PretrainingLoop(epochs=3, learning_rate=1e-2, warmup_steps=0),
)
TEXTS = [f"lamp {n % 7} ; chair {n % 5} ; table" for n in range(120)]


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")


def test_pretraining_learns_and_repeats_itself():
    def once():
        device = prepare_training(5, 1)
        made = train_scratch_backbone(TEXTS[:20], TEXTS[20:], PARAMS, seed=5, device=device)
        return made, {name: tensor.numpy().tobytes() for name, tensor in made.model.state_dict().items()}

    (first, bytes_of_first), (second, bytes_of_second) = once(), once()
    losses = [row["valid_loss"] for row in first.fitted.curves]
    assert losses[-1] < 0.7 * np.log(300)
    assert losses[-1] < losses[0]
    assert bytes_of_first == bytes_of_second
    assert first.tokenizer.backend_tokenizer.to_str() == second.tokenizer.backend_tokenizer.to_str()


def test_any_text_survives_the_tokenizer():
    tokenizer = train_tokenizer(TEXTS, 300)
    for text in ("lamp 3", "Überraschung ☂ 日本", "<|end|x"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_packing_loses_nothing_but_the_rest():
    tokenizer = train_tokenizer(TEXTS, 300)
    blocks = pack_blocks(TEXTS, tokenizer, 10)
    _, begin, end = special_token_ids(tokenizer)
    expected = [i for text in TEXTS for i in [begin, *tokenizer.encode(text, add_special_tokens=False), end]]
    assert blocks.flatten().tolist() == expected[: len(blocks) * 10]
    assert len(expected) - blocks.numel() < 10
    assert pack_blocks(["lamp"], tokenizer, 64).shape == (1, 64)


def test_histories_tell_training_parts_alone(tiny):
    past = tiny.histories(users=3, length=5)
    titles = [f"t{item}" for item in range(12)]
    assert history_documents(past, titles) == ["t0 ; t1 ; t2", "t1 ; t2 ; t3", "t2 ; t3 ; t4"]


def test_items_without_words_go_by_their_key():
    items = pl.DataFrame(
        {
            "item_key": ["k0", "k1"],
            "title": ["A red lamp", ""],
            "description": ["It glows.", ""],
            "brand": ["", ""],
            "categories": [["home"], []],
            "attributes": [[{"name": "colour", "value": "red"}], []],
        },
        schema_overrides={
            "categories": pl.List(pl.String),
            "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
        },
    )
    assert item_documents(items, 60) == ["A red lamp. home. red. It glows", "k1"]
    assert item_titles(items, 2) == ["A red", "k1"]


def test_params_refuse_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of `heads`"):
        ScratchParams(hidden=66, heads=4)


def test_a_tiny_corpus_still_trains():
    device = prepare_training(5, 1)
    made = train_scratch_backbone(["lamp"], ["lamp ; lamp"], PARAMS, seed=5, device=device)
    assert torch.isfinite(torch.tensor(made.fitted.curves[-1]["loss"]))
