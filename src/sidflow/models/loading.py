"""Loading through transformers: errors of one line, no remarks, and a model cut to its first layers or untrained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from sidflow.core.errors import InputError


@contextmanager
def load_errors_as_input_errors(folder: Path, expected: str, remedy: str) -> Iterator[None]:
    """Raise as an `InputError` whatever transformers raises for a folder that it cannot read."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            str(folder),
            expected=expected,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy=remedy,
        ) from error


@contextmanager
def without_library_output() -> Iterator[None]:
    """Load, run, wrap or save a model without progress bars, and without what transformers and PEFT remark on it.

    What makes a model unusable is an error of ours. PEFT asks every model for `is_gradient_checkpointing`, which
    transformers has deprecated. Downloads from the hub stay outside of this context, so that their progress shows.
    """
    bars_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars_enabled:
            logging.enable_progress_bar()


def keep_layers(config: PretrainedConfig, count: int) -> None:
    """Change `config` to that of the first `count` layers, in place."""
    text = config.get_text_config()
    types = getattr(text, "layer_types", None)
    text.num_hidden_layers = count
    if types is not None:
        text.layer_types = list(types)[:count]


def load_pretrained(
    auto: Any, folder: Path, config: PretrainedConfig, remedy: str, unused: str = "", **options: Any
) -> PreTrainedModel:
    """Return the model in `folder`, all of whose weights are in its safetensors files; no code of the folder runs.

    Args:
        auto: the class of transformers that picks the model's class.
        folder: holds the model.
        config: of the model.
        remedy: of the error message.
        unused: beginning of the names of weights that may be missing, since nobody uses them.
        options: for `from_pretrained`.

    Raises:
        InputError: a weight is missing.
    """
    model, report = auto.from_pretrained(
        folder,
        config=config,
        output_loading_info=True,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        **options,
    )
    missing = sorted(name for name in report["missing_keys"] if not (unused and name.startswith(unused)))
    if missing:
        raise InputError(
            str(folder),
            expected=f"all weights of a {type(model).__name__}",
            found="some missing, which would be random",
            count=len(missing),
            example=missing[0],
            remedy=remedy,
        )
    return model


def untrained(auto: Any, config: PretrainedConfig, seed: int, **options: Any) -> PreTrainedModel:
    """Return a model of the shape of `config` with random weights, drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto.from_config(config, trust_remote_code=False, **options)
