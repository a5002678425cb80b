"""What is dropped and skipped in training is whole in evaluation."""

import pytest
import torch
from tests.unit.sequential.cases import TABLE_ITEMS, settings_of, table
from torch import nn
from torch.nn import functional

from sidflow.sequential.encoders import GruEncoder
from sidflow.sequential.model import IdEmbedding, SequenceModel, build_encoder

KINDS = [("sasrec", {}), ("sasrec", {"block": "ligr"}), ("sasrec", {"pre_norm": False}), ("gru4rec", {})]
ITEMS, LENGTHS = torch.tensor([[9, 8, 7, 6, 5], [5, 4, 3, 2, 1]]), torch.tensor([5, 5])


def differs_between_calls(call):
    return not torch.equal(call(), call())


def sequence_model(**settings):
    torch.manual_seed(0)
    chosen = settings_of("sasrec", {}, **{"dropout": 0, "item_dropout": 0, "loss": "full", **settings})
    return SequenceModel(chosen, IdEmbedding(TABLE_ITEMS, 16, 1.0), torch.ones(TABLE_ITEMS))


@pytest.mark.parametrize("settings", [{"item_dropout": 0.5}, {"skip_share": 0.5}, {"dropout": 0.5}])
@pytest.mark.parametrize("by", ["place", "item"])
def test_a_loss_is_random_in_training_and_fixed_outside(settings, by):
    model = sequence_model(item_dropout_by=by, **settings)
    assert differs_between_calls(lambda: model(ITEMS, LENGTHS)["loss"])
    model.eval()
    assert torch.equal(model(ITEMS, LENGTHS)["loss"], sequence_model().eval()(ITEMS, LENGTHS)["loss"])


def test_item_dropout_keeps_the_expected_vector():
    """Half of the numbers are zero, the others twice as large."""
    model = sequence_model(item_dropout=0.5)
    scored = []
    model.objective.forward = lambda scores: scored.append(scores.item_matrix) or scores.states.sum()  # type: ignore
    model(ITEMS, LENGTHS)
    kept = scored[0] != 0
    torch.testing.assert_close(scored[0][kept], 2 * model.items()[kept])
    assert 0.4 < float(kept.float().mean()) < 0.6


@pytest.mark.parametrize(("name", "extra"), KINDS)
def test_an_encoder_drops_in_training_alone(name, extra):
    torch.manual_seed(0)
    encoder = build_encoder(settings_of(name, extra, dropout=0.3))
    vectors = functional.embedding(ITEMS, table())
    assert differs_between_calls(lambda: encoder(vectors, LENGTHS))
    torch.manual_seed(0)
    whole = build_encoder(settings_of(name, extra, dropout=0.0))
    assert torch.equal(encoder.eval()(vectors, LENGTHS), whole(vectors, LENGTHS))


@pytest.mark.parametrize("block", ["plain", "ligr"])
def test_dropout_is_of_both_sublayers_and_never_of_the_residual(block):
    torch.manual_seed(0)
    one = build_encoder(settings_of("sasrec", {"block": block})).blocks[0]
    x = torch.randn(2, 5, 16)
    one.dropout = nn.Dropout(1.0)
    assert torch.equal(one.train()(x, None), x)
    assert not torch.equal(one.eval()(x, None), x)


def test_a_transformer_drops_its_input_too():
    torch.manual_seed(0)
    encoder = build_encoder(settings_of("sasrec", {"blocks": 1}))
    vectors = functional.embedding(ITEMS, table())
    encoder.dropout, encoder.norm = nn.Dropout(1.0), nn.Identity()
    encoder.blocks = nn.ModuleList()
    assert not encoder.train()(vectors, LENGTHS).any()
    assert encoder.eval()(vectors, LENGTHS).any()


def test_attention_dropout_is_of_attention_in_training_alone():
    torch.manual_seed(0)
    one = build_encoder(settings_of("sasrec", {"attention_dropout": 0.5, "dropout": 0.0})).blocks[0]
    x = torch.randn(2, 5, 16)
    assert differs_between_calls(lambda: one.train()(x, None))
    assert torch.equal(one.eval()(x, None), one.eval()(x, None))


def test_a_gru_drops_before_and_after_its_recurrence():
    torch.manual_seed(0)
    settings = settings_of("gru4rec", {"hidden": 8, "dropout": 0.5})
    encoder = GruEncoder(settings).train()
    seen = []
    encoder.dropout.register_forward_hook(lambda module, given, made: seen.append((given[0], made)))
    encoder(functional.embedding(ITEMS, table()), LENGTHS)
    assert [before.shape[2] for before, _ in seen] == [16, 8]
    assert all(((after == 0) & (before != 0)).any() for before, after in seen)
