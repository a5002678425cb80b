"""The device that models run on."""

from __future__ import annotations

import torch

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime, load_runtime


def pick_device(runtime: Runtime | None = None) -> torch.device:
    """Return the device that the runtime settings ask for; `auto` takes CUDA where there is one.

    Args:
        runtime: the settings; None reads them.

    Raises:
        InputError: CUDA is requested and not available.
    """
    name = (runtime or load_runtime()).device
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "runtime device",
            expected="a CUDA device",
            found="none that torch can use",
            remedy="set SIDFLOW_DEVICE=auto, or see `sidflow doctor`",
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
