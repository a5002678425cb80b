"""LoRA's shorter way: PEFT's own outputs and gradients."""

import copy

import peft.tuners.lora.layer
import pytest
import torch

from sidflow.backbones.adapter import add_adapter
from sidflow.backbones.lora import LeanLora
from sidflow.backbones.params import LoraParams


def adapted_model(tiny, **more):
    model = add_adapter(tiny.model("llama", 300), LoraParams(rank=4, alpha=20, **more))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


def lean_layers(model):
    return [module for module in model.modules() if isinstance(module, LeanLora)]


def plain(model):
    """A copy with PEFT's own layers."""
    copied = copy.deepcopy(model)
    for layer in lean_layers(copied):
        layer.__class__ = peft.tuners.lora.layer.Linear
    return copied


def states(model):
    tokens = torch.arange(24).view(2, 12)
    return model.get_base_model().get_decoder()(input_ids=tokens).last_hidden_state


def test_outputs_and_gradients_are_those_of_peft(tiny):
    model = adapted_model(tiny)
    theirs = plain(model)
    assert len(lean_layers(model)) == 2 * 7 and not lean_layers(theirs)
    ours_gradients, their_gradients = (
        torch.autograd.grad(states(one).square().mean(), [p for p in one.parameters() if p.requires_grad])
        for one in (model, theirs)
    )
    torch.testing.assert_close(states(model), states(theirs), atol=1e-5, rtol=1e-5)
    assert len(ours_gradients) == 2 * 2 * 7
    for ours, expected in zip(ours_gradients, their_gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_dropout_is_that_of_peft_in_training_and_off_in_evaluation(tiny):
    model = adapted_model(tiny, dropout=0.5)
    theirs = plain(model)
    drawn = []
    for one in (model.train(), theirs.train()):
        torch.manual_seed(3)
        drawn.append(states(one))
    assert torch.equal(*drawn)
    torch.testing.assert_close(states(model.eval()), states(theirs.eval()), atol=1e-5, rtol=1e-5)
    assert (drawn[0] - states(model)).abs().max() > 0.01


@pytest.mark.parametrize("change", ["disabled", "merged"])
def test_an_adapter_that_is_off_or_merged_is_left_to_peft(tiny, change):
    model = adapted_model(tiny)
    on = states(model)
    if change == "disabled":
        with model.disable_adapter():
            off, expected = (
                states(model),
                tiny.model("llama", 300).get_decoder()(input_ids=torch.arange(24).view(2, 12)),
            )
        torch.testing.assert_close(off, expected.last_hidden_state)
        assert (on - off).abs().max() > 0.01
    else:
        model.merge_adapter()
        torch.testing.assert_close(states(model), on, atol=1e-4, rtol=1e-4)
