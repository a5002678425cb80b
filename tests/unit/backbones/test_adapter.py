"""LoRA adapters: scale, dropout, targets."""

import pytest
import torch

from sidflow.backbones.adapter import CONFIG, WEIGHTS, add_adapter, load_adapter, save_adapter
from sidflow.backbones.params import LoraParams
from sidflow.core.errors import InputError

RECORD = {"repo": "", "commit": ""}


def test_the_update_is_scaled_by_alpha_over_rank(tiny):
    x = torch.randn(3, tiny.hidden, generator=torch.Generator().manual_seed(1))
    for alpha in (2, 16):
        model = add_adapter(tiny.model("llama", 300), LoraParams(rank=4, alpha=alpha, targets=("q_proj",)))
        layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.testing.assert_close(layer(x) - layer.base_layer(x), alpha / 4 * x @ down.T @ up.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_what_enters_the_adapter_is_dropped_out_in_training_alone(tiny, dropout):
    model = add_adapter(tiny.model("llama", 300), LoraParams(rank=4, dropout=dropout, targets=("q_proj",)))
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.ones(64, tiny.hidden)
    alike = {mode: bool((layer.train(mode)(x) - layer(x)).abs().max() < 1e-6) for mode in (True, False)}
    assert alike == {True: dropout == 0, False: True}


def test_lora_targets_must_exist(tiny):
    with pytest.raises(InputError, match=r"up_proj.*found \['c_fc'\]"):
        add_adapter(tiny.model("llama", 300), LoraParams(targets=("c_fc",)))


def test_a_target_that_is_no_linear_layer_is_one_clear_line(tiny):
    with pytest.raises(InputError, match=r"lora\.targets: expected names of linear layers.*\['mlp'\]"):
        add_adapter(tiny.model("llama", 300), LoraParams(targets=("mlp",)))


def test_pickled_weights_are_never_read_in_place_of_the_adapters_own(tiny, tmp_path, monkeypatch):
    save_adapter(add_adapter(tiny.model("llama", 300), LoraParams(targets=("q_proj",))), tmp_path / "adapter", RECORD)
    assert (tmp_path / "adapter" / CONFIG).is_file()
    (tmp_path / "adapter" / WEIGHTS).rename(tmp_path / "adapter/adapter_model.bin")
    monkeypatch.setattr(torch, "load", lambda *given, **named: pytest.fail("unpickled"))
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: expected the adapter's weights"):
        load_adapter(tiny.model("llama", 300), tmp_path / "adapter", LoraParams())


def test_an_adapter_that_was_trained_and_is_not_there_is_one_line(tiny, tmp_path):
    model = tiny.model("llama", 300)
    assert load_adapter(model, tmp_path, LoraParams(enabled=False)) is model
    with pytest.raises(InputError, match=r"adapter_config\.json: expected the adapter that was trained; found no such"):
        load_adapter(model, tmp_path, LoraParams())
