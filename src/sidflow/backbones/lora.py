"""LoRA layers that do less than PEFT's: the update is added by one matrix product, in the precision of the input.

    y = W x + (alpha / rank) B A x

PEFT computes B A x, scales it and adds it to W x: two more passes over an array as wide as the layer, forward and
backward, and casts the input to the adapter's precision. Here one product adds the scaled update to W x; with bf16
weights the thin matrices are cast instead. Weights, their names and what is saved stay PEFT's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional


class LeanLora(Linear):
    """PEFT's layer with a shorter way through it where one plain adapter is on and nothing is dropped."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return W x plus the scaled update."""
        name = self._plain_adapter() if not args and not kwargs else None
        if name is None:
            return super().forward(x, *args, **kwargs)
        output = self.base_layer(x)
        down, up = (layer.get_parameter(f"{name}.weight").to(x.dtype) for layer in (self.lora_A, self.lora_B))
        thin = functional.linear(x, down).flatten(0, -2)
        updated = torch.addmm(output.flatten(0, -2), thin, up.T, alpha=self.scaling[name])
        return updated.view(output.shape)

    def _plain_adapter(self) -> str | None:
        """Return the name of the one adapter that is on; None where PEFT's own way is needed."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] in self.lora_variant:
            return None
        dropout = self.lora_dropout[names[0]]
        drops = self.training and not isinstance(dropout, nn.Identity)
        return None if drops or self.lora_bias[names[0]] else names[0]


def make_lean(model: nn.Module) -> None:
    """Let every LoRA layer inside `model` over a plain linear layer take the shorter way, in place."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = LeanLora
