"""Histories as one row without padding: the states, losses and gradients of histories side by side."""

import pytest
import torch

from sidflow.backbones.adapter import add_adapter
from sidflow.backbones.params import LoraParams
from sidflow.backbones.prompted_backbone import Prompt, PromptedBackbone

LENGTHS = torch.tensor([7, 3, 1, 5, 5])
PROMPTS = [Prompt([5, 9, 11, 30], [7, 8, 40]), Prompt([2], [6]), Prompt(list(range(20)), list(range(30, 35)))]


def backbone_of(tiny, family, prompt, readout):
    adapted = add_adapter(tiny.model(family, 300), LoraParams(rank=4, alpha=16))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)  # a fresh adapter changes nothing
    return PromptedBackbone(adapted, prompt, readout).eval()


def loss_and_gradients(backbone, key_values=False):
    tokens = torch.randn(5, 7, backbone.config.hidden_size, generator=torch.Generator().manual_seed(1))
    tokens.requires_grad_()
    reads = torch.arange(7).expand(5, -1)
    given = backbone.instruction_key_values() if key_values else None
    states = backbone(tokens, reads, given, LENGTHS)[reads < LENGTHS[:, None]]
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad} | {"tokens": tokens}
    loss = states.square().mean()
    gradients = torch.autograd.grad(loss, list(trained.values()))
    return loss, dict(zip(trained, gradients, strict=True))


@pytest.mark.parametrize("readout", ["last_item", "response"])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_packed_histories_have_the_loss_and_gradients_of_padded_ones(tiny, monkeypatch, family, prompt, readout):
    backbone = backbone_of(tiny, family, prompt, readout)
    assert backbone.packs
    loss, gradients = loss_and_gradients(backbone)
    kept_loss, kept = loss_and_gradients(backbone, key_values=True)
    monkeypatch.setattr(PromptedBackbone, "packs", False)
    padded_loss, padded = loss_and_gradients(backbone)
    assert torch.isfinite(loss) and gradients.keys() == padded.keys() and len(gradients) > 1
    for found_loss, found in ((loss, gradients), (kept_loss, kept)):
        torch.testing.assert_close(found_loss, padded_loss, atol=1e-5, rtol=1e-5)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, padded[name], atol=1e-5, rtol=1e-5, msg=name)


def test_padding_is_no_work_and_changes_nothing(tiny):
    backbone = backbone_of(tiny, "llama", PROMPTS[0], "last_item")
    widths = []
    backbone.decoder.layers[0].mlp.register_forward_hook(lambda _, inputs, output: widths.append(output.shape[:2]))
    tokens = torch.randn(5, 7, tiny.hidden, generator=torch.Generator().manual_seed(1))
    reads = torch.arange(7).expand(5, -1)
    valid = reads < LENGTHS[:, None]
    states = backbone(tokens, reads, lengths=LENGTHS)
    other = backbone(torch.where(valid[..., None], tokens, 99.0), reads, lengths=LENGTHS)
    assert widths == [(1, 4 + int(LENGTHS.sum()))] * 2
    assert torch.equal(states[valid], other[valid]) and torch.isfinite(other).all()


def test_models_with_windows_or_attention_of_their_own_are_not_packed(tiny):
    assert not any(backbone_of(tiny, family, PROMPTS[0], "last_item").packs for family in ("mistral", "gemma2"))


def test_the_model_attends_as_before_outside_of_a_packed_pass(tiny):
    backbone = backbone_of(tiny, "llama", PROMPTS[0], "last_item")
    tokens = torch.randn(2, 3, tiny.hidden)
    before = backbone.decoder(inputs_embeds=tokens).last_hidden_state
    backbone(tokens, torch.tensor([[2], [2]]))
    with pytest.raises(RuntimeError):
        backbone(tokens[..., :-1], torch.tensor([[2], [2]]))
    assert backbone.config._attn_implementation == "sdpa"
    assert torch.equal(backbone.decoder(inputs_embeds=tokens).last_hidden_state, before)


def test_bf16_weights_attend_in_fp32_and_stay_close(tiny):
    backbone = backbone_of(tiny, "llama", PROMPTS[0], "last_item")
    tokens = torch.randn(5, 7, tiny.hidden, generator=torch.Generator().manual_seed(1))
    reads = torch.arange(7).expand(5, -1)
    exact = backbone(tokens, reads, lengths=LENGTHS)
    rounded = backbone.to(torch.bfloat16)(tokens, reads, lengths=LENGTHS)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).norm() < 0.05 * exact.norm()
