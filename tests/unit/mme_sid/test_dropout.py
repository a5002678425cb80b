"""What MME-SID drops and skips in training is whole in evaluation."""

import pytest
import torch
from torch import nn

from sidflow.backbones.params import LoraParams
from sidflow.mme_sid.item_tokens import ItemTokens
from sidflow.mme_sid.model import MmeSid
from sidflow.mme_sid.params import FinetuneParams

ROWS = torch.arange(16)


def build(tiny, backbone, **changes):
    torch.manual_seed(0)
    plain = {"token_dropout": 0.0, "item_dropout": 0.0, "skip_share": 0.0, "lora": LoraParams(dropout=0.0)}
    return MmeSid(backbone, tiny.inputs(), tiny.histories(), FinetuneParams(**{**plain, **changes}))


def scores_of(model):
    """Return what the loss of a batch is made of."""
    seen = []
    model(ROWS, lambda scores: seen.append(scores) or scores.states.sum())
    return seen[0]


@pytest.mark.parametrize(
    "change",
    [{"token_dropout": 0.5}, {"item_dropout": 0.5}, {"skip_share": 0.5}, {"lora": LoraParams(dropout=0.5)}],
    ids=lambda change: next(iter(change)),
)
def test_a_loss_is_random_in_training_and_fixed_outside(tiny, backbone, change):
    model = build(tiny, backbone, **change)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # at the start an adapter adds nothing
                parameter.normal_(std=0.5)
    model.train()
    assert model(ROWS)["loss"].item() != model(ROWS)["loss"].item()
    model.eval()
    assert model(ROWS)["loss"].item() == model(ROWS)["loss"].item()


def test_without_any_a_loss_is_fixed_in_training_too(tiny, backbone):
    model = build(tiny, backbone).train()
    assert model(ROWS)["loss"].item() == model(ROWS)["loss"].item()


def test_token_dropout_is_of_each_place_of_a_sequence_and_never_of_the_tokens_that_answer(tiny):
    inputs = tiny.inputs()
    torch.manual_seed(0)
    tokens = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams(token_dropout=0.5)).train()
    items = torch.tensor([[3, 3, 4]])
    whole, read = tokens(items.flatten()), tokens.of_sequences(items)[0]
    kept = read != 0
    torch.testing.assert_close(read[kept], 2 * whole[kept])
    assert 0 < int(kept.sum()) < kept.numel()
    assert not torch.equal(kept[0], kept[1])  # the same item, at two places
    torch.testing.assert_close(tokens.eval().of_sequences(items)[0], tokens(items.flatten()))


def test_item_dropout_is_of_the_rows_that_are_scored(tiny, backbone):
    model = build(tiny, backbone, item_dropout=0.5).train()
    rows, whole = scores_of(model).item_matrix, model.item_matrix()
    kept = rows != 0
    torch.testing.assert_close(rows[kept], 2 * whole[kept])
    assert 0.3 < float(kept.float().mean()) < 0.7
    assert torch.equal(scores_of(model.eval()).item_matrix, whole)


def test_skipped_items_leave_fewer_targets_in_training_alone(tiny, backbone):
    model = build(tiny, backbone, skip_share=0.5)
    all_targets = int((model.windows.lengths[ROWS] - 1).sum())
    assert len(scores_of(model.train()).targets) < 0.75 * all_targets
    assert len(scores_of(model.eval()).targets) == all_targets


def test_a_model_is_served_without_dropout(tiny, backbone):
    model = build(tiny, backbone, token_dropout=0.5, item_dropout=0.5)
    assert [module.p for module in model.modules() if type(module) is nn.Dropout].count(0.5) == 2
    for matrix in (model.item_matrix, model.all_tokens):
        assert torch.equal(matrix(), matrix())
