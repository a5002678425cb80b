"""A second fit on training and validation events: whom it answers, what it leaves, what must not meet it."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from tests.unit.killing import second_fit_resumes
from tests.unit.sequential.cases import CYCLE, edit_params, hashes, scores_of, stage_main

from sidflow.artifacts.catalog import IMAGES, TRUTH
from sidflow.artifacts.evaluation import LEADERBOARD, METRICS
from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import CURVES, SUMMARY, WEIGHTS
from sidflow.evaluation.evaluate import diagnose_item_vectors
from sidflow.multimodal.fit import item_maker, load_multimodal, prior_maker
from sidflow.sequences.histories import load_histories
from sidflow.sequential import params
from sidflow.sequential.fit import answer_queries, train_recommender
from sidflow.sequential.model import IdEmbedding
from sidflow.sequential.serve import load_recommender
from sidflow.training.devices import prepare_training

CASES = [
    ("train_sequential", "gru4rec"),
    ("train_multimodal", "sasrec_features"),
    ("train_multimodal", "dmesr_sasrec"),
    ("train_multimodal", "content_hybrid"),
]


def set_params(section, model, **values):
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    content[section][model] |= values
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content, handle)


def by_hand(stage, model, epochs, own_weight):
    """Train on all that comes before the test targets, without validation."""
    known = load_histories()
    asked = np.isin(np.arange(known.user_count), known.query_user)  # one user has no query
    wide = known._replace(train_end=known.train_end + asked, query_valid=np.zeros(0, dtype=bool))
    wide = wide._replace(query_user=np.zeros(0, int), query_end=np.zeros(0, int), targets=np.zeros(0, int))
    device, prior = prepare_training(3, 1), None
    if stage == "train_sequential":
        base = params.load_sequential(model)
        items = IdEmbedding(CYCLE + 1, base.dimensions, base.init_std)
    else:
        chosen, base = load_multimodal(model)
        items = item_maker(chosen, base, CYCLE + 1)()
        make_prior = prior_maker(chosen.hybrid, CYCLE + 1)
        if make_prior is not None:
            prior = make_prior(wide)
            prior.own.fill_(own_weight)
    trained = train_recommender("t", base, items, wide, CYCLE + 1, prior, seed=3, device=device, stop_after=epochs)
    return answer_queries(trained.model, known, prior)


@pytest.mark.parametrize(("stage", "model"), CASES)
def test_a_refit_answers_test_queries_from_more_and_leaves_validation_alone(shop, stage, model):
    edit_params(epochs=8, schedule="cosine")
    main, valid = stage_main(stage), load_histories().query_valid
    main(model)
    plain, summary = scores_of(model), SUMMARY.read(model=model)
    kept = [file.at(model=model).read_bytes() for file in (CURVES, ITEM_TABLE)]
    set_params(stage, model, refit=True)
    main(model)
    told = SUMMARY.read(model=model)
    assert "refit_epochs" not in summary
    assert 1 < told["refit_epochs"] == told["best_epoch"] == summary["best_epoch"] < told["epochs"]
    own_weight = told.get("prior", {}).get("own")
    assert own_weight == summary.get("prior", {}).get("own")
    expected = by_hand(stage, model, told["best_epoch"], own_weight)
    np.testing.assert_allclose(scores_of(model)[valid], plain[valid], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores_of(model)[~valid], expected.scores(np.flatnonzero(~valid)), rtol=1e-4, atol=1e-5)
    assert not np.allclose(scores_of(model)[~valid], plain[~valid], atol=1e-2)
    assert [file.at(model=model).read_bytes() for file in (CURVES, ITEM_TABLE)] == kept
    new = load_recommender(model).encode([load_histories().history(0)])
    np.testing.assert_allclose(new, expected.states[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stage", "model"), CASES)
def test_killed_in_the_second_fit_it_ends_in_the_same_bytes(shop, monkeypatch, stage, model):
    edit_params(epochs=3)
    set_params(stage, model, refit=True)
    main = stage_main(stage)
    expected, found = second_fit_resumes(lambda: main(model), lambda: hashes(model), monkeypatch)
    assert found == expected
    assert not list((shop / "cache").rglob("*.safetensors"))


@pytest.fixture
def measured(shop):
    """A refitted neural recommender beside one that counts and one with nothing to fit, up to their evaluations."""
    text = {"evaluate": {}, "compare": {"draws": 200}, "train_counting": {"markov": {}, "popularity": {}}}
    edit_params(epochs=2, recommenders=["gru4rec", "markov", "popularity"], **text)
    set_params("train_sequential", "gru4rec", refit=True)
    IMAGES.write(IMAGES.empty())
    TRUTH.write(TRUTH.empty(CYCLE + 1))
    stage_main("train_sequential")("gru4rec")
    count(shop)
    return shop


def count(shop):
    for model in ("markov", "popularity"):
        stage_main("train_counting")(model)
    for model in ("gru4rec", "markov", "popularity"):
        stage_main("rank")(model)
        stage_main("evaluate")(model)


def test_a_leaderboard_never_mixes_the_two(measured, capsys):
    set_params("train_counting", "markov", refit=True)
    count(measured)
    with pytest.raises(SystemExit) as stopped:
        stage_main("compare")()
    told = capsys.readouterr().err
    assert (stopped.value.code, len(told.splitlines())) == (2, 1)
    assert "refitted: gru4rec, markov; not: popularity" in told
    set_params("train_counting", "popularity", refit=True)
    count(measured)
    stage_main("compare")()
    assert set(LEADERBOARD.read()["recommenders"]) == {"gru4rec", "markov", "popularity"}


def test_diagnostics_are_of_the_refitted_vectors_alone(measured):
    matrix = WEIGHTS.read(model="gru4rec").arrays["item_matrix"]
    expected = diagnose_item_vectors(matrix, None, None, load_histories()).metrics
    found = METRICS.read(model="gru4rec")
    told = {name: value for name, value in found.items() if name.startswith(("item_", "tau_"))}
    assert told == pytest.approx(expected, rel=1e-4)
