"""From artifacts to artifacts: learning, bytes, resume, and new histories from the written weights."""

import numpy as np
import polars as pl
import pytest
import torch
from tests.unit.sequential.cases import (
    CYCLE,
    HYBRID,
    SECTIONS,
    edit_params,
    hashes,
    quick,
    scores_of,
    stage_main,
)

from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import CURVES, FACTORS, SUMMARY
from sidflow.artifacts.split import SEQUENCES
from sidflow.core.errors import InputError
from sidflow.multimodal.fit import load_multimodal, multimodal_params
from sidflow.sequences.histories import load_histories
from sidflow.sequential import params
from sidflow.sequential.serve import load_recommender
from sidflow.training.checkpoint import Checkpoint


def recall_at_one(model):
    """Recall@1 of the test queries, history excluded."""
    scores, known = scores_of(model), load_histories()
    scores[known.seen(scores.shape[1]).toarray()] = -np.inf
    return (scores.argmax(1) == known.targets)[~known.query_valid].mean()


@pytest.mark.parametrize(
    ("stage", "model"),
    [(stage, model) for stage, models in SECTIONS.items() for model in models],
)
def test_the_obvious_is_learned_and_everything_written(shop, stage, model):
    stage_main(stage)(model)
    assert recall_at_one(model) > 0.95
    summary, curves = SUMMARY.read(model=model), CURVES.read(model=model)
    assert summary["epochs"] == len(curves) and 1 <= summary["best_epoch"] <= len(curves)
    assert float(curves[summary["best_epoch"] - 1]["valid_ndcg_at_10"]) == summary["best_valid_ndcg_at_10"]
    assert summary["device"] == "cpu" and summary["threads"] == 1 and summary["seed"] == 3
    table, factors = ITEM_TABLE.read(model=model).arrays, FACTORS.read(model=model).arrays
    assert table["present"].tolist() == [True] * CYCLE + [False]
    own = factors["item_matrix"][:, : table["values"].shape[1]]  # a hybrid has content rows beside them
    assert np.array_equal(table["values"][:CYCLE], own[:CYCLE]) and not table["values"][CYCLE].any()
    known = load_histories()
    again = load_recommender(model).answer([known.history(query) for query in range(known.query_count)])
    np.testing.assert_allclose(again.states, factors["query_states"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again.scores(np.arange(known.query_count)), scores_of(model), rtol=1e-4, atol=1e-4)
    assert not list((shop / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("stage", "model"),
    [
        ("train_sequential", "sampled"),
        ("train_sequential", "gru4rec"),
        ("train_sequential", "bert4rec"),
        ("train_multimodal", "dmesr_sasrec"),
        ("train_multimodal", "sasrec_features"),
        ("train_multimodal", "sasrec_hybrid"),
        ("train_multimodal", "bert4rec_hybrid"),
    ],
)
def test_killed_and_resumed_it_ends_in_the_same_bytes(shop, monkeypatch, stage, model):
    edit_params(epochs=3)
    main = stage_main(stage)
    main(model)
    expected = hashes(model)
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    saves = []

    def save(self, snapshot, whole=Checkpoint.save):
        whole(self, snapshot)
        saves.append(snapshot.values["steps"])
        if len(saves) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        main(model)
    torch.manual_seed(99)
    main(model)
    assert saves[7] == saves[6] + 1
    assert hashes(model) == expected


def test_the_seed_matters(shop):
    edit_params(epochs=1)
    main = stage_main("train_sequential")
    main("gru4rec")
    first = hashes("gru4rec")
    edit_params(epochs=1, seed=4)
    main("gru4rec")
    assert hashes("gru4rec")["factors.safetensors"] != first["factors.safetensors"]


def test_params_are_strict(shop):
    assert isinstance(params.load_sequential("sampled"), params.SasrecParams)
    with pytest.raises(InputError, match=r"train_sequential\.nobody"):
        params.load_sequential("nobody")
    with pytest.raises(InputError, match="architecture"):
        params.from_content({}, "nobody", "here")
    for content in (5, "gru4rec", ["gru4rec"]):
        with pytest.raises(InputError, match=r"here: expected a mapping of names to values; found"):
            params.from_content(content, "sasrec", "here")
    with pytest.raises(InputError, match=r"here\.architecture: expected one of .* found \['gru4rec'\]"):
        params.from_content({"architecture": ["gru4rec"]}, "sasrec", "here")
    with pytest.raises(InputError, match=r"here\.kind: expected one of .* found \['dmesr'\]"):
        multimodal_params({"kind": ["dmesr"]}, "here")
    with pytest.raises(InputError, match="multiple of `heads`"):
        params.from_content({"dimensions": 6, "heads": 4}, "sasrec", "here")
    with pytest.raises(InputError, match="hidden"):
        params.from_content({"hidden": 4}, "sasrec", "here")
    with pytest.raises(InputError, match=r"`pre_norm: true` with `block: ligr`"):
        params.from_content({"block": "ligr", "pre_norm": False}, "sasrec", "here")
    chosen, base = load_multimodal("sasrec_features")
    assert chosen.features == ("view_text", "view_image") and base.architecture == chosen.base == "sasrec"
    with pytest.raises(InputError, match=r"here\.model.*hidden"):
        multimodal_params({"kind": "features", "model": {"hidden": 4}}, "here")
    for own, instead in (({"architecture": "gru4rec"}, "base"), ({"refit": True}, "refit")):
        (name,) = own
        for kind in ("features", "dmesr"):
            with pytest.raises(InputError, match=rf"here:x\.model\.{name}: .*Remedy: set x\.{instead}"):
                multimodal_params({"kind": kind, "model": own}, "here:x")
    settings, base = load_multimodal("dmesr_sasrec")
    assert "kind" not in settings.model_dump(), "summaries and checkpoints keep their bytes"
    for kind in ({}, {"kind": "nobody"}):
        with pytest.raises(InputError, match=r"here\.kind: expected one of \['dmesr', 'features', 'hybrid'\]"):
            multimodal_params(kind, "here")
    assert settings.base == base.architecture == "sasrec" and base.loss == "sampled"


def test_nothing_to_train_on_is_one_line(shop, capsys):
    frame = SEQUENCES.read()
    SEQUENCES.write(frame.with_columns(pl.lit(1, dtype=pl.Int32).alias("train_end")))
    with pytest.raises(SystemExit) as stopped:
        stage_main("train_sequential")("sasrec")
    assert stopped.value.code == 2 and "two training items" in capsys.readouterr().err


def test_a_hybrid_answers_by_base_and_prior(shop):
    """The parts that it writes are those of the score; its base alone is what stands in the item table."""
    edit_params(epochs=2)
    stage_main("train_multimodal")("sasrec_hybrid")
    factors, model = FACTORS.read(model="sasrec_hybrid").arrays, load_recommender("sasrec_hybrid")
    assert model.prior is not None and float(model.prior.own) in np.float32(model.prior.params.own_weights)
    assert factors["item_matrix"].shape == (CYCLE + 1, 16 + 6) and "query_indptr" in factors
    assert SUMMARY.read(model="sasrec_hybrid")["prior"]["own"] == pytest.approx(float(model.prior.own))
    assert set(SUMMARY.read(model="sasrec_hybrid")["prior"]) == {
        "own",
        "cooccurrence",
        "epsilon",
        "popularity",
        "content_view_text",
    }


def test_what_a_hybrid_cannot_be_is_one_line():
    for section, match in (
        ({"kind": "hybrid", "model": quick(loss="bce")}, r"x\.model\.loss: .*softmax.*found bce"),
        ({"kind": "hybrid", "hybrid": None}, r"x\.hybrid: .*found null"),
        ({"kind": "hybrid", "hybrid": {"content": [], "cooccurrence": False}}, r"x\.hybrid.*names an embedding"),
    ):
        with pytest.raises(InputError, match=match):
            multimodal_params(section, "params.yaml:x")


def test_without_a_prior_nothing_of_it_is_in_the_params():
    for section in ({"kind": "dmesr"}, {"kind": "features"}):
        assert "hybrid" not in multimodal_params(section, "x")[0].model_dump(mode="json")
    settings, _ = multimodal_params({"kind": "dmesr", "hybrid": HYBRID}, "x")
    assert settings.model_dump(mode="json")["hybrid"]["folds"] == 3
