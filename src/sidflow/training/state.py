"""What training changes in a module, and putting it back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sidflow.contracts.errors import InputError


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: parameters that take a gradient, and buffers."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def trained_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers among `trained_state`: what validation may choose."""
    parameters = dict(module.named_parameters())
    return {name: tensor for name, tensor in trained_state(module).items() if name not in parameters}


def restore_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `module` from `state`, a `trained_state` of it.

    Raises:
        InputError: it is of another model.
    """
    own = trained_state(module)
    if set(own) != set(state):
        raise InputError(
            "checkpoint",
            expected="the tensors of this model",
            found="others",
            example=sorted(set(own) ^ set(state))[0],
            remedy="delete the checkpoints in the cache folder",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
