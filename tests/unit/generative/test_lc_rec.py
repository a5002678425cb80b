"""LC-Rec's model: its ID tokens, its alignment tasks, and the stage as DVC runs it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.unit.generative import kills
from tests.unit.generative.cases import (
    LORA,
    TITLES,
    item_ids,
    random_codes,
    tiny_backbone,
    tiny_language_model,
    whole_logits,
)
from tests.unit.generative.shop import COUNT, LOOP, ROOT, enter_shop_with_ids, ranking_of, stage_main, write_params
from tests.unit.killing import second_fit_resumes
from tests.unit.sequential.cases import CYCLE
from transformers import Gemma2Config, HyperCLOVAXConfig, LlamaConfig, MistralConfig, PhiConfig

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import BACKBONE, CURVES, MODEL_FOLDER, SUMMARY, WEIGHTS, adapter_folder
from sidflow.backbones.models import record_of_folder
from sidflow.core.errors import InputError
from sidflow.generative.alignment import AlignedLosses
from sidflow.generative.params import LanguageParams, generative_entry
from sidflow.generative.ranking import CandidateTree
from sidflow.generative.serve import GenerativeRecommender
from sidflow.sequences.histories import load_histories
from sidflow.sequences.windows import SeededBatch, recent_windows

ALIGNED = {"id_from_title": 0.5, "title_from_id": 0.25, "next_title": 0.5, "samples": 4}
BACKBONES = [
    {"tied": True},
    {"tied": False},
    {"tied": True, "family": Gemma2Config, "sliding_window": 128, "head_dim": 8, "final_logit_softcapping": 5.0},
]


def aligned_losses(backbone=None, titles=TITLES, **params):
    """The losses of a tiny model over four windows of eight items."""
    ids = item_ids(random_codes(1, len(TITLES)))
    params = {"alignment": ALIGNED} | params
    model = tiny_language_model(ids, backbone, **params)
    settings = LanguageParams(architecture="language_model", lora=LORA, max_length=5, **params)
    windows = recent_windows([[0, 1, 2], [3, 4], [5, 6, 7, 8], [9, 10, 11]], 5)
    candidates = CandidateTree(ids, len(TITLES), torch.device("cpu"))
    return AlignedLosses(model, windows, ids, candidates, settings, titles)


@pytest.mark.parametrize("kind", BACKBONES, ids=["tied", "untied", "gemma2"])
def test_states_and_logits_are_those_of_peft(kind):
    losses = aligned_losses(tiny_backbone(**kind))
    model = losses.model.eval()
    with torch.no_grad():
        for parameter in model.parameters():  # ID tokens as if trained, another vector on each side
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        rows = torch.tensor([losses.next_title_row(2).tokens])
        expected = whole_logits(model, rows)
        torch.testing.assert_close(model.vocabulary_logits(model.mixed_states(rows)), expected, atol=1e-4, rtol=1e-4)
        items, lengths = losses.windows.padded(torch.arange(4))
        predictions = model.predictions(losses.tokens[items], lengths)
        for row in range(4):
            history = losses.tokens[items[row, : lengths[row]]].flatten()
            whole = torch.cat([model.reader.instruction[0], history + model.words])[None]
            logits = whole_logits(model, whole)[0]
            for column in range(1, int(lengths[row])):
                assert predictions.items[row, column - 1] == column
                place = model.reader.instruction.shape[1] + column * 3 - 1
                torch.testing.assert_close(
                    model.vocabulary_logits(predictions.states[row, column - 1]),
                    logits[place : place + 3],
                    atol=1e-4,
                    rtol=1e-4,
                )
        assert (predictions.items >= 0).sum() == (lengths - 1).sum()


def frozen_tensors(model):
    """Every tensor of the backbone by its own name, wherever PEFT keeps it."""
    tensors = {}
    for name, tensor in model.model.get_base_model().state_dict().items():
        if "lora_" not in name and "trainable_tokens_" not in name:
            own = name.replace(".token_adapter", "").replace(".original_module", "").replace(".base_layer", "")
            tensors.setdefault(own, []).append(tensor)
    return tensors


@pytest.mark.parametrize("kind", BACKBONES, ids=["tied", "untied", "gemma2"])
def test_id_tokens_train_and_words_do_not(kind):
    backbone = tiny_backbone(**kind)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    losses = aligned_losses(backbone)
    model = losses.model
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or "trainable_tokens_delta" in name for name, _ in trained)
    first = {name: parameter.detach().clone() for name, parameter in trained}
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained], lr=0.01, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        losses(SeededBatch(torch.arange(4), step))["loss"].backward()
        optimizer.step()
    after = frozen_tensors(model)
    assert after.keys() == before.keys()
    for name, copies in after.items():
        for tensor in copies:  # of a table, the rows of words
            assert torch.equal(tensor[: len(before[name])], before[name]), name
    tables = {"embed_tokens": model.decoder.get_input_embeddings(), "lm_head": model._head}
    for table in tables.values():
        source = before["lm_head.weight" if table is tables["lm_head"] else "model.embed_tokens.weight"]
        assert torch.equal(table.original_module.weight[: model.words], source)
        assert torch.equal(table.weight[: model.words], source)  # what PEFT computes with
    for name, parameter in trained:
        assert not torch.equal(parameter, first[name]), name
    assert (model.output_rows()[3:] != first[[n for n, _ in trained if "delta" in n][-1]][3:]).any(1).all()


@pytest.mark.parametrize("kind", BACKBONES[:2], ids=["tied", "untied"])
def test_id_tokens_start_around_the_mean_of_words_at_the_size_asked_for(kind):
    ids = item_ids(random_codes(1, len(TITLES)))
    deviations = {}
    for scale in (1.0, 0.25):
        backbone = tiny_backbone(**kind)
        torch.manual_seed(3)
        model = tiny_language_model(ids, backbone, token_scale=scale)
        words = model.word_rows().detach()
        deviations[scale] = (model.output_rows().detach() - words.mean(0)) / words.std(0)
    torch.testing.assert_close(deviations[0.25], 0.25 * deviations[1.0], atol=1e-5, rtol=1e-4)
    assert deviations[1.0].std() == pytest.approx(1, abs=0.2)


def test_rows_of_the_alignment_tasks():
    losses = aligned_losses()
    model, tokenizer = losses.model, losses.model.tokenizer

    def read(tokens):
        return "".join(
            tokenizer.decode([token]) if token < model.words else f"<{token - model.words}>" for token in tokens
        )

    def of_item(item):
        return "".join(f"<{token}>" for token in losses.tokens[item].tolist())

    begin, end = tokenizer.bos_token, tokenizer.eos_token
    row = losses.id_row(5)
    assert read(row.tokens[: row.start]) == f"{begin}The product called blue chair has the ID "
    assert read(row.tokens[row.start :]) == of_item(5)
    row = losses.title_row(5)
    assert read(row.tokens[: row.start]) == f"{begin}The product with the ID {of_item(5)} is called "
    assert read(row.tokens[row.start :]) == f"blue chair{end}"
    row = losses.next_title_row(0)
    prompt = f"{begin}A customer bought these products, oldest first: {of_item(0)}{of_item(1)}"
    assert read(row.tokens[: row.start]) == f"{prompt} The product bought next is called "
    assert read(row.tokens[row.start :]) == f"green lamp{end}"


def test_losses_of_the_alignment_tasks():
    losses = aligned_losses(normalise="vocabulary").eval()
    model = losses.model
    with torch.no_grad():
        parts = losses(SeededBatch(torch.arange(4), 7))
        weighted = sum(ALIGNED[name] * float(parts[name]) for name in ("id_from_title", "title_from_id", "next_title"))
        assert float(parts["loss"]) == pytest.approx(float(parts["next_id"]) + weighted, rel=1e-5)

        def mean_loss(row):
            log_probs = whole_logits(model, torch.tensor([row.tokens]))[0].log_softmax(-1)
            places = torch.arange(row.start, len(row.tokens))
            return -log_probs[places - 1, torch.tensor(row.tokens)[places]]

        one = losses._id_loss(torch.tensor([6]))
        assert float(one) == pytest.approx(float(mean_loss(losses.id_row(6)).sum()), rel=1e-4)
        rows = [losses.title_row(1), losses.next_title_row(2)]
        expected = torch.cat([mean_loss(row) for row in rows]).mean()
        assert float(losses._word_loss(rows)) == pytest.approx(float(expected), rel=1e-4)
    again = losses(SeededBatch(torch.arange(4), 7))
    assert float(again["loss"].detach()) == pytest.approx(float(parts["loss"]))
    assert float(losses(SeededBatch(torch.arange(4), 8))["loss"].detach()) != pytest.approx(float(parts["loss"]))


def test_backbones_that_cannot_be_used_are_refused():
    ids = item_ids(random_codes(1, 5))
    short = tiny_backbone(family=MistralConfig, sliding_window=12)
    with pytest.raises(InputError, match=r"a window of at least \d+ positions.*found 12 \(sliding_window"):
        tiny_language_model(ids, short)
    few = tiny_backbone(family=LlamaConfig)
    few.model.config.max_position_embeddings = 20
    message = r"and 6 items of 3 tokens; found 20 \(max_position_embeddings.*set generate\.\*\.max_length lower"
    with pytest.raises(InputError, match=message):
        tiny_language_model(ids, few)
    limited = tiny_backbone()
    limited.model.config.max_position_embeddings = 60
    titles = [*TITLES[:-1], f"{TITLES[-1]} {'x' * 200}"]
    with pytest.raises(InputError, match=r"longest row of the alignment tasks; found 60 .*alignment\.title_words"):
        aligned_losses(limited, titles=titles)
    aligned_losses()
    scaled = tiny_backbone(family=HyperCLOVAXConfig, logits_scaling=0.5)
    biased = tiny_backbone(tied=False, family=PhiConfig)
    biased.model.lm_head.bias.normal_()
    for backbone in (scaled, biased):
        family = backbone.model.config.model_type
        with pytest.raises(InputError, match=f"products of states and rows.*found others, of a model of type {family}"):
            tiny_language_model(ids, backbone, lora=LORA | {"targets": ["q_proj"]})
    for values, message in (
        ({"prompt": "x"}, "`prompt` with {history} once"),
        ({"prompt": "They bought {history} and then"}, "`prompt` that ends with {history}.*' and then' behind it"),
        (
            {"lora": {"enabled": False}},
            "`lora.enabled: true`",
        ),
    ):
        with pytest.raises(InputError, match=message):
            generative_entry("lc_rec", {"architecture": "language_model", **values}, "params.yaml:generate.lc_rec")
    for values, message in ((5, "expected a mapping"), ({"architecture": ["decoder"]}, "found \\['decoder'\\]")):
        with pytest.raises(InputError, match=message):
            generative_entry("tiger", values, "params.yaml:generate.tiger")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The folder of a small shop with IDs, titles and a backbone from scratch, as the current one."""
    enter_shop_with_ids(tmp_path, monkeypatch)
    ITEMS.write(ITEMS.read().with_columns(title=pl.Series(TITLES[:COUNT])))
    torch.manual_seed(0)
    model, tokenizer = tiny_backbone()
    model.save_pretrained(tmp_path / MODEL_FOLDER)
    tokenizer.save_pretrained(tmp_path / MODEL_FOLDER)
    BACKBONE.write(record_of_folder("scratch", tmp_path / MODEL_FOLDER))
    return tmp_path


def write_lc_rec(**more):
    own = {"dimensions": None, "layers": None, "heads": None, "feedforward": None, "dropout": None}
    write_params(lc_rec={"architecture": "language_model", "lora": LORA, **own, **more})


def hashes():
    paths = (path for path in Path("artifacts/recommenders/lc_rec").rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


@pytest.mark.parametrize("aligned", [False, True])
def test_the_obvious_successor_comes_first_and_is_served(shop, aligned):
    words = (shop / MODEL_FOLDER / "model.safetensors").read_bytes()
    epochs = {"epochs": 20 if aligned else 30}
    write_lc_rec(alignment=ALIGNED if aligned else {}, validate_on=100, loop=LOOP | epochs)
    stage_main()("lc_rec")
    ranks = ranking_of("lc_rec")
    assert (ranks.rank <= (3 if aligned else 1)).mean() > 0.9
    assert (shop / MODEL_FOLDER / "model.safetensors").read_bytes() == words
    first, *_, last = CURVES.read(model="lc_rec")
    for loss in ("id_from_title", "title_from_id", "next_title") if aligned else ("loss",):
        assert float(last[loss]) < 0.8 * float(first[loss])
    summary = SUMMARY.read(model="lc_rec")
    assert summary["backbone"]["family"] == "llama" and summary["trained_parameters"] < summary["parameters"]
    assert not WEIGHTS.read(model="lc_rec").arrays  # all that it learned is in the adapter
    assert (adapter_folder("lc_rec") / "adapter_model.safetensors").stat().st_size < 100_000
    recommender, histories = GenerativeRecommender("lc_rec"), load_histories()
    for query in range(0, histories.query_count, 9):
        arrays, listed = recommender.answer(histories.history(query).tolist())
        scores = dict(zip(arrays["query_indices"].tolist(), arrays["query_values"].tolist(), strict=True))
        open_items = [item for item in scores if item not in histories.history(query)]
        assert max(open_items, key=scores.__getitem__) == ranks.top.items[query, 0]
        assert listed.sum() == CYCLE
    for history in ([], [COUNT - 1]):  # items without an ID
        arrays, listed = recommender.answer(history)
        assert listed.sum() == CYCLE and np.isfinite(arrays["query_values"]).all()


def test_a_recommender_of_another_backbone_is_refused(shop):
    write_lc_rec(loop=LOOP | {"epochs": 1})
    stage_main()("lc_rec")
    GenerativeRecommender("lc_rec")
    record = BACKBONE.read()
    BACKBONE.write(record | {"files": dict.fromkeys(record["files"], "0" * 64)})
    with pytest.raises(InputError, match=r"the model that generate@lc_rec was trained on.*dvc repro generate@lc_rec"):
        GenerativeRecommender("lc_rec")


def test_a_killed_second_fit_goes_on_to_the_same_bytes(shop, monkeypatch):
    write_lc_rec(
        refit=True, alignment=ALIGNED, token_dropout=0.2, loop=LOOP | {"epochs": 2}, lora={**LORA, "dropout": 0.2}
    )
    expected, resumed = second_fit_resumes(lambda: stage_main()("lc_rec"), hashes, monkeypatch)
    assert resumed == expected
    assert {"adapter_model.safetensors", "adapter_config.json", "weights.safetensors"} <= set(resumed)


def test_a_training_that_is_killed_with_kill_9_goes_on_to_the_same_bytes(shop):
    """Adapter, rows of IDs and factors: the checkpoint is half written, an epoch half validated, the adapter alone."""
    write_lc_rec(
        alignment=ALIGNED, token_dropout=0.2, loop=LOOP | {"epochs": kills.EPOCHS}, lora={**LORA, "dropout": 0.2}
    )
    environment = os.environ | {
        "SIDFLOW_CHECKPOINT_SECONDS": "0.000001",
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
    }
    command = (sys.executable, "-m", "tests.unit.generative.kills", "lc_rec")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = found["hashes"]
    assert found["code"] == 0 and {"adapter/adapter_model.safetensors", "factors.safetensors"} <= set(expected)
    assert list(found["killed"]) == list(kills.MOMENTS)
    steps = {"in_a_checkpoint": (1, 3), "in_a_validation": (2, None), "behind_the_last_epoch": (kills.EPOCHS + 1, 0)}
    for moment, after in found["killed"].items():
        assert after["code"] == -signal.SIGKILL, moment
        epoch, step = steps.get(moment, (kills.EPOCHS + 1, 0))
        resumed = f"resumed at epoch {epoch}, step {'' if step is None else step}"
        assert after["again"] == 0 and resumed in after["said"], after["said"]
        assert len(after["kept"]) == (2 if moment == "in_a_checkpoint" else 1)  # what is half written has another name
        assert (after["hashes"], after["left"]) == (expected, []), moment


def test_weights_in_bf16(shop):
    write_lc_rec(weights="bf16", alignment=ALIGNED, loop=LOOP | {"epochs": 3})
    stage_main()("lc_rec")
    curves = CURVES.read(model="lc_rec")
    assert float(curves[-1]["loss"]) < float(curves[0]["loss"])
    arrays, listed = GenerativeRecommender("lc_rec").answer([0, 1, 2])
    assert listed.sum() == CYCLE and np.isfinite(arrays["query_values"]).all()
