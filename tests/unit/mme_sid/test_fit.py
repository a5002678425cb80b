"""MME-SID fitted a second time, on training and validation events: whom it answers, and what it leaves."""

import copy
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.numpy import load_file
from tests.unit.killing import second_fit_resumes

from sidflow.artifacts import recommenders
from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import BACKBONE, CURVES, FACTORS, SUMMARY, served_matrix
from sidflow.backbones.models import load_backbone
from sidflow.core import params
from sidflow.mme_sid import serve
from sidflow.mme_sid.fit import answer_queries, score_prior
from sidflow.mme_sid.fusion import relative_frequency
from sidflow.mme_sid.item_tokens import load_item_inputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.mme_sid.serve import HistoryEncoder
from sidflow.mme_sid.start import initialise_from_items
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

MODELS = ["mme_sid", "anchored"]
CORE = 12


@pytest.fixture
def copied(ran, tiny, tmp_path, monkeypatch):
    """A copy of the folder of a run of both stages, as the current one, with params that refit."""
    shutil.copytree(ran / "artifacts", tmp_path / "artifacts")
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    changed = copy.deepcopy(tiny.params)
    for section in changed["finetune"].values():
        section |= {"refit": True, "loop": {"epochs": 4, "patience": 0, "warmup_steps": 2, "learning_rate": 0.02}}
    changed["finetune"]["anchored"]["anchoring"] |= {"own_weights": [0.0, 1.2, 0.3]}
    with (tmp_path / "params.yaml").open("w") as handle:
        YAML().dump(changed, handle)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finetune(model, **changes):
    from stages import finetune as stage

    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    content["finetune"][model] |= changes
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content, handle)
    stage.main(model)
    return SUMMARY.read(model=model)


def scores(model, past):
    return Scores(FACTORS.read(model=model).arrays, past.query_count, CORE).for_queries(np.arange(past.query_count))


def by_hand(model, past, epochs, own):
    """Train on all that comes before the test targets, without validation; return the answers to all queries."""
    settings = params.load_section(f"finetune.{model}", FinetuneParams)
    none = np.zeros(0, dtype=np.int64)
    wide = past._replace(
        train_end=past.train_end + 1, query_user=none, query_end=none, query_valid=none.astype(bool), targets=none
    )
    known = load_item_inputs(list(params.load_param("modality")), (), wide.training_counts(CORE))
    backbone = load_backbone(BACKBONE.read(), settings.weights)
    device = prepare_training(4, 1)
    prior = score_prior(wide, known, settings)
    made = MmeSid(backbone, known, wide, settings)
    initialise_from_items(made, settings.token_scale)
    task = MmeSidTask(made, wide, settings, prior)
    fit("t", task, settings.loop, seed=4, device=device, stop_after=epochs)
    if prior is not None:
        prior.own.fill_(own)
    with torch.no_grad():
        return answer_queries(made, prior, past)


@pytest.mark.parametrize("model", MODELS)
def test_a_refit_answers_test_queries_from_more_and_leaves_validation_alone(copied, model):
    past = load_histories()
    valid = past.query_valid
    first = finetune(model, refit=False)
    plain, curves = scores(model, past), CURVES.at(model=model).read_bytes()
    table = ITEM_TABLE.read(model=model)
    assert recommenders.refit_in(FACTORS.read(model=model).metadata) is False
    told = finetune(model, refit=True)
    assert told["refit_epochs"] == told["best_epoch"] == first["best_epoch"]
    assert told.get("anchor", {}).get("own") == first.get("anchor", {}).get("own")
    found, factors = scores(model, past), FACTORS.read(model=model)
    assert recommenders.refit_in(factors.metadata) is True
    np.testing.assert_allclose(found[valid], plain[valid], rtol=1e-4, atol=1e-5)
    expected = by_hand(model, past, told["best_epoch"], told.get("anchor", {}).get("own"))
    np.testing.assert_allclose(found[~valid], expected.scores(np.flatnonzero(~valid)), rtol=1e-4, atol=1e-4)
    assert not np.allclose(found[~valid], plain[~valid], atol=1e-2)
    assert CURVES.at(model=model).read_bytes() == curves
    # what encodes new histories is of the second fit
    np.testing.assert_allclose(served_matrix(factors), expected.matrix, rtol=1e-4, atol=1e-5)
    asked = np.flatnonzero(~valid)[[0, 7]]
    encoder = HistoryEncoder(model)
    new = encoder.scores([past.history(query).tolist() for query in asked])
    np.testing.assert_allclose(new, found[asked], rtol=1e-4, atol=1e-4)
    again = ITEM_TABLE.read(model=model)
    assert recommenders.refit_in(again.metadata) is True and not np.allclose(
        again.arrays["values"], table.arrays["values"]
    )
    serve.merge(model, copied / "merged")
    assert np.array_equal(load_file(copied / "merged" / serve.TABLES)["item_matrix"], served_matrix(factors))


def test_the_weight_that_validation_chose_is_not_the_start(copied):
    """Else the test above would not see whether the second fit takes it over."""
    assert finetune("anchored")["anchor"]["own"] != FinetuneParams().anchoring.own_weight


@pytest.mark.parametrize("model", MODELS)
def test_killed_in_the_second_fit_it_ends_in_the_same_bytes(copied, monkeypatch, model):
    folder = copied / "artifacts/recommenders" / model

    def hashes():
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    expected, found = second_fit_resumes(lambda: finetune(model), hashes, monkeypatch)
    assert found == expected
    assert not list((copied / "cache").rglob("*.safetensors"))


def test_the_second_fit_counts_validation_events_too(tiny):
    """Frequencies of the fusion, negatives and popularity are of the events that the fit has seen."""
    past = tiny.histories()
    first, second = (one.training_counts(CORE) for one in (past, past.before_test()))
    assert len(set(first.tolist())) > 5 and len(set(second.tolist())) > 5
    assert (second - first).sum() == past.user_count
    assert not np.allclose(relative_frequency(first), relative_frequency(second), atol=0.01)


@pytest.mark.parametrize("refit", [False, True])
def test_a_model_is_made_of_the_counts_of_its_own_fit(copied, tiny, monkeypatch, refit):
    made, past = [], load_histories()

    class Noted(MmeSid):
        def __init__(self, backbone, inputs, histories, params):
            super().__init__(backbone, inputs, histories, params)
            made.append((self, inputs.counts))

    monkeypatch.setattr("sidflow.mme_sid.fit.MmeSid", Noted)
    finetune("mme_sid", refit=refit, loss="sampled", negatives=4, loop={"epochs": 1, "warmup_steps": 0})
    fits = [past, past.before_test()] if refit else [past]
    assert len(made) == len(fits)
    for (model, counts), seen in zip(made, fits, strict=True):
        expected = np.bincount(seen.training_events()[1], minlength=CORE)
        assert counts.tolist() == expected.tolist()
        frequency = torch.from_numpy(relative_frequency(expected))
        assert torch.equal(model.fusion.frequency[:, 0], frequency)
        weights = (torch.from_numpy(expected).double() + 1) ** model.negatives.settings.negatives_power
        torch.testing.assert_close(model.negatives.probabilities, weights / weights.sum())
