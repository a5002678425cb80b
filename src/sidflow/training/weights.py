"""A module's weights as a checked artifact, and back, strictly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from sidflow.contracts.errors import InputError


def weights_to_arrays(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """Return every parameter and buffer of `module` as numpy arrays."""
    return {f"{prefix}{name}": tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}


def weights_from_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Fill `module` from `arrays`.

    Raises:
        InputError: a name or shape differs.
    """
    state = {name[len(prefix) :]: torch.from_numpy(a.copy()) for name, a in arrays.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            "weights", expected="the weights of this model", found=str(error), remedy="rerun the stage that trains it"
        ) from error
