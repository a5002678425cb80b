"""The device of a training, and what makes it repeatable there."""

from __future__ import annotations

import random

import numpy as np
import torch

from sidflow.contracts.errors import InputError
from sidflow.contracts.runtime import load_runtime


def pick_device() -> torch.device:
    """Return the device that the runtime settings ask for; `auto` takes CUDA where there is one.

    Raises:
        InputError: CUDA is asked for and not there.
    """
    name = load_runtime().device
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "runtime device",
            expected="a CUDA device",
            found="none that torch can use",
            remedy="set SIDFLOW_DEVICE=auto, or see `sidflow doctor`",
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def prepare_training(seed: int, threads: int) -> torch.device:
    """Seed every generator, fix the thread count, ask for deterministic kernels, and return the device."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pick_device()


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context that autocast around it does not reach: bf16 makes ties of what decides about ranks and codes.

    Autocast casts what goes into a matrix product, whatever the caller made of it before.
    """
    return torch.autocast(device.type, enabled=False)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the CPU generator that draws epoch `epoch`'s batches and negatives."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (2**63 - 1))
