"""Models that read a prompt and, where they see, a picture: where one is, what it is called, and how it is loaded.

What writes views and what embeds items by the same model both take it from here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
)

from sidflow.core.errors import InputError
from sidflow.models.files import file_hashes, model_folder, require_model_files
from sidflow.models.inputs import ModelInputs
from sidflow.models.loading import load_errors_as_input_errors, load_pretrained, untrained, without_library_output
from sidflow.models.params import ModelParams

EXPECTED = "an image-text-to-text or causal language model that transformers reads"
REMEDY = "name a folder as transformers saves it, with safetensors weights and a tokenizer"


class PromptedModel(NamedTuple):
    """A model folder on this machine, not loaded yet."""

    named: ModelParams
    folder: Path
    files: dict[str, str]  # sha256 by name
    config: PretrainedConfig
    sees: bool  # it takes pictures
    name: str  # with `revision`, part of the key of what it made
    revision: str

    @property
    def context(self) -> int | None:
        """The largest number of tokens that the model reads and writes together, where its config says so."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    @property
    def token_bytes(self) -> int:
        """Memory of a token's keys and values in fp32, by the config; at most, where it does not tell their heads."""
        config = self.config.get_text_config()
        width, heads = config.hidden_size, getattr(config, "num_attention_heads", None)
        kept_heads = getattr(config, "num_key_value_heads", None)
        if heads and kept_heads:
            width = kept_heads * (getattr(config, "head_dim", None) or width // heads)
        return int(2 * torch.float32.itemsize * width * config.num_hidden_layers)


def prompted_model(named: ModelParams, slot: str) -> PromptedModel:
    """Locate a model and read its config.

    Args:
        named: as params name it.
        slot: where in params.yaml, for messages.

    Raises:
        InputError: it is not here, or is of another kind.
    """
    folder = model_folder(named, slot)
    files = file_hashes(folder)
    require_model_files(folder, files, REMEDY)
    with load_errors_as_input_errors(folder, EXPECTED, REMEDY), without_library_output():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if not sees and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        found = f"a model of type {config.model_type}"
        raise InputError(str(folder), expected=EXPECTED, found=found, remedy=REMEDY)
    return PromptedModel(named, folder, files, config, sees, *_name_and_revision(named, folder, files))


def load_prompted(model: PromptedModel, device: torch.device, dtype: str = "auto") -> tuple[Any, ModelInputs]:
    """Return the network on `device`, and what makes its inputs.

    Args:
        model: where it is.
        device: where it runs.
        dtype: of its weights: fp32, bf16, or auto, which is bf16 on CUDA and fp32 elsewhere.

    Raises:
        InputError: the folder cannot be read, or weights are missing.
    """
    auto = AutoModelForImageTextToText if model.sees else AutoModelForCausalLM
    half = dtype == "bf16" or (dtype == "auto" and device.type == "cuda")
    kind = torch.bfloat16 if half else torch.float32
    with load_errors_as_input_errors(model.folder, EXPECTED, REMEDY), without_library_output():
        network: Any
        if model.named.weights == "random":
            network = untrained(auto, model.config, 0, dtype=kind)
        else:
            network = load_pretrained(auto, model.folder, model.config, REMEDY, dtype=kind)
        parameters = frozenset(inspect.signature(network.forward).parameters)
        inputs = ModelInputs(model.folder, model.config, parameters, model.sees)
    return network.eval().to(device), inputs


def _name_and_revision(model: ModelParams, folder: Path, files: Mapping[str, str]) -> tuple[str, str]:
    """Return the model and the revision of a key."""
    if model.kind == "hub":
        name, revision = model.repo, model.commit
    elif model.kind == "package":
        name, revision = model.package_name, _digest(model.sha256)
    else:
        name, revision = folder.resolve().name, _digest(files)  # template and processor move answers too
    return name, revision if model.weights == "pretrained" else f"{revision}, random weights"


def _digest(hashes: Mapping[str, str]) -> str:
    """Return the only hash, or that of all."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()
