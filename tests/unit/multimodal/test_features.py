"""Item vectors with raw features: what is missing brings nothing, what is there is shared by items alike."""

import numpy as np
import pytest
import torch

from sidflow.artifacts.features import ItemRows
from sidflow.multimodal import features
from sidflow.multimodal.features import CentredRows, FeatureItemEmbedding, FeaturesParams
from sidflow.sequential.model import SequenceModel
from sidflow.sequential.params import from_content

N, D = 10, 8


def view(missing=(), width=5, seed=0):
    present = np.ones(N, dtype=bool)
    present[list(missing)] = False
    values = 3 + np.random.default_rng(seed).normal(size=(N, width)).astype(np.float32)
    return ItemRows(values * present[:, None], present)


def featured(views, **settings):
    torch.manual_seed(0)
    return FeatureItemEmbedding(views, N, D, 0.5, FeaturesParams(**settings)).eval()


def test_an_item_vector_written_out():
    text, image = view([3], seed=1), view([3, 4], 4, seed=2)
    items = featured({"text": text, "image": image})
    expected = items.weight.detach().clone()
    for name, held in (("text", text), ("image", image)):
        rows = held.values[held.present].astype(np.float64)
        rows -= rows.mean(0)
        rows /= np.sqrt((rows**2).sum(1).mean())
        weight = items.project[name].weight
        expected[torch.from_numpy(held.present)] += (torch.from_numpy(rows).float() @ weight.T).detach()
    torch.testing.assert_close(items().detach(), expected)
    torch.testing.assert_close(items(torch.tensor([7, 3, 7])), items()[[7, 3, 7]])


@pytest.mark.parametrize("name", ["values", "type", "training", "text-v2"])
def test_a_feature_may_have_any_name(name):
    text, named = featured({"text": view([3])}), featured({name: view([3])})
    assert torch.equal(named(), text()) and torch.equal(named.content().values, text.content().values)
    assert set(text.state_dict()) == {"weight", "project.text.weight"}  # the names of earlier runs


def test_an_item_that_lacks_all_features_is_its_free_vector():
    items = featured({"text": view([3]), "image": view([3], seed=1)})
    assert torch.equal(items()[3], items.weight[3])
    assert (items() - items.weight).abs().amax(1).ne(0).sum() == N - 1


def test_whatever_stands_in_an_absent_row_is_not_read():
    held = view([2, 5])
    rubbish = ItemRows(np.where(held.present[:, None], held.values, np.float32(50)), held.present)
    assert torch.equal(featured({"text": held})(), featured({"text": rubbish})())


def test_scale_is_what_a_feature_brings_beside_the_free_vector():
    rng = np.random.default_rng(0)
    wide = ItemRows(rng.normal(size=(400, 300)).astype(np.float32), np.ones(400, dtype=bool))
    items = FeatureItemEmbedding({"text": wide}, 400, 300, 0.02, FeaturesParams(scale=3.0)).eval()
    with torch.no_grad():
        brought = items() - items.weight
        ratio = float(brought.std() / items.weight.std())
    assert ratio == pytest.approx(3.0, rel=0.05)


def test_rows_that_all_say_the_same_say_nothing():
    present = np.array([True, True, False, True])
    rows, held = CentredRows(np.full((4, 3), 7, dtype=np.float32), present)()
    assert torch.equal(rows, torch.zeros(4, 3)) and held.tolist() == present.tolist()


def test_rows_of_several_vectors_an_item_are_centred_over_all_present_ones(monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 7)  # the mean is taken in several blocks
    draw = np.random.default_rng(0)
    values, present = draw.normal(2, 1, (N, 3, 4)).astype(np.float32), draw.random((N, 3)) < 0.6
    rows, held = CentredRows(values, present)()
    assert torch.equal(held, torch.from_numpy(present)) and rows[~held].eq(0).all()
    torch.testing.assert_close(rows[held].mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    assert float(rows[held].square().sum(1).mean()) == pytest.approx(1)
    some = torch.tensor([4, 0, 4])
    assert torch.equal(CentredRows(values, present)(some)[0], rows[some])


def test_both_the_free_vector_and_the_projection_learn():
    items = featured({"text": view([3])})
    settings = from_content({"dimensions": D, "loss": "sampled", "negatives": 4, "max_length": 6}, "sasrec", "test")
    model = SequenceModel(settings, items, torch.ones(N))
    model(torch.tensor([[1, 2, 3, 4]]), torch.tensor([4]))["loss"].backward()
    assert items.weight.grad[[1, 2, 3, 4]].abs().amax(1).min() > 0
    assert items.project["text"].weight.grad.abs().max() > 0
    assert not [name for name, _ in model.items.named_buffers() if name in model.items.state_dict()]


def test_features_are_dropped_in_training_alone_and_the_free_vector_never():
    items = featured({"text": view([3], width=400)}, dropout=0.5)
    whole = items()
    items.train()
    assert not torch.equal(items(), items())
    assert torch.equal(items()[3], items.weight[3])  # it lacks the feature: nothing of it is random
    rows = items.get_buffer("text_rows")
    read = []
    items.project["text"].register_forward_hook(lambda module, given, made: read.append(given[0]))
    items(torch.tensor([1, 2]))
    kept = read[0] != 0
    torch.testing.assert_close(read[0][kept], 2 * rows[[1, 2]][kept])  # half of the numbers, twice as large
    assert 0.4 < float(kept.float().mean()) < 0.6
    assert torch.equal(items.eval()(), whole)
