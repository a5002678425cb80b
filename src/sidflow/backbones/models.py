"""Causal language models as backbones: recorded by file hashes, loaded without remote code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sidflow.artifacts.recommenders import BACKBONE, MODEL_FOLDER
from sidflow.backbones.params import BackboneParams
from sidflow.core.errors import InputError
from sidflow.core.files import default_permissions, note_read, note_write, project_path
from sidflow.models.files import (
    file_hashes,
    model_folder,
    model_of_record,
    origin,
    require_model_files,
    require_recorded_files,
)
from sidflow.models.loading import (
    keep_layers,
    load_errors_as_input_errors,
    load_pretrained,
    untrained,
    without_library_output,
)

SLOT = "backbone"  # the section of params.yaml
EXPECTED = "a causal LM and a tokenizer that transformers reads without remote code"
SUMMARY_ENTRIES = ("kind", "repo", "commit", "package", "weights", "family", "hidden_size", "layers")
BACKBONE_KEY = "backbone"  # metadata of what is trained beside a backbone: its digest
REMEDY = "point params.yaml:backbone at a causal LM saved by transformers with safetensors weights"


class Backbone(NamedTuple):
    """A loaded causal language model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def record_of_folder(kind: str, folder: Path, entries: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the record (backbone.json) of the model in `folder`.

    Args:
        kind: scratch, path, hub or package.
        folder: where the model's files are.
        entries: more of the record: where the model is from, as params name it.

    Raises:
        InputError: the folder has no config, no safetensors weights or no tokenizer, or it holds no causal LM that
            transformers reads without remote code.
    """
    files = file_hashes(folder)
    require_model_files(folder, files, REMEDY)
    with load_errors_as_input_errors(folder, EXPECTED, REMEDY), without_library_output():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        hidden_size, layers = (
            int(getattr(config.get_text_config(), name)) for name in ("hidden_size", "num_hidden_layers")
        )
        for name in files:
            if name.endswith(".safetensors"):
                with safe_open(folder / name, framework="pt") as weights:
                    weights.keys()
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise InputError(
            str(folder), expected="a causal LM", found=f"a model of type {config.model_type}", remedy=REMEDY
        )
    return {
        "kind": kind,
        "repo": "",
        "commit": "",
        "path": "",
        "files": files,
        "hidden_size": hidden_size,
        "layers": layers,
        "family": config.model_type,
        **(entries or {}),
    }


def record_of_pretrained(params: BackboneParams, seed: int = 0) -> dict[str, Any]:
    """Return the record (backbone.json) of a pretrained backbone, of kind `path`, `hub` or `package`.

    Args:
        params: name the model, and how many of its layers are kept.
        seed: of random weights, where params ask for them.

    Raises:
        InputError: params do not name a model, its files cannot be read, or it has fewer layers.
    """
    model = params.model
    record = record_of_folder(model.kind, model_folder(model, SLOT), origin(model))
    if model.weights == "random":
        record["seed"] = seed
    if params.layers is not None:
        if params.layers > record["layers"]:
            raise InputError(
                "params.yaml:backbone.layers",
                expected=f"at most the model's {record['layers']}",
                found=str(params.layers),
                remedy="set it lower, or to null for all",
            )
        record["layers"] = params.layers
    return record


def backbone_folder(record: Mapping[str, Any]) -> Path:
    """Return the folder of the recorded model on this machine."""
    return project_path(MODEL_FOLDER) if record["kind"] == "scratch" else model_folder(model_of_record(record), SLOT)


def backbone_summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recommender's summary says of the backbone that `record` (backbone.json) names."""
    return {key: record[key] for key in SUMMARY_ENTRIES if key in record}


def backbone_digest(record: Mapping[str, Any]) -> str:
    """Return a SHA-256, in hex, of the model that `record` (backbone.json) names, wherever its files lie."""
    identity = {key: record.get(key) for key in ("files", "layers", "weights", "seed")}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def require_backbone(record: Mapping[str, Any], digest: object, stage: str) -> None:
    """Check that a recommender is served by the backbone that it was trained on.

    Args:
        record: the content of backbone.json.
        digest: what `backbone_digest` gave in training.
        stage: that trained the recommender.

    Raises:
        InputError: the backbone is another one.
    """
    if digest != backbone_digest(record):
        raise InputError(
            str(BACKBONE.at()),
            expected=f"the model that {stage} was trained on",
            found="another one",
            remedy=f"run `dvc repro {stage}`",
        )


def load_backbone(record: Mapping[str, Any], weights: str = "fp32") -> Backbone:
    """Return the recorded model, frozen and in evaluation mode, and its tokenizer.

    Args:
        record: the content of backbone.json.
        weights: fp32, bf16, or nf4 (4 bits through bitsandbytes).

    Raises:
        InputError: a file differs from the record or cannot be read, or nf4 is not available here.
    """
    folder = backbone_folder(record)
    remedy = "put the recorded model back, or `dvc repro -f backbone` to record this one"
    hashes = require_recorded_files(folder, record["files"], "artifacts/backbone/backbone.json", remedy)
    if record["kind"] == "scratch":
        for name in hashes:
            note_read(folder / name)
    options = _nf4_options(record) if weights == "nf4" else {}
    dtype = torch.float32 if weights == "fp32" else torch.bfloat16
    with load_errors_as_input_errors(folder, EXPECTED, REMEDY), without_library_output():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if record["layers"] != config.get_text_config().num_hidden_layers:
            keep_layers(config, record["layers"])
        options |= {"attn_implementation": _attention_implementation(config), "dtype": dtype}
        if record.get("weights") == "random":
            model = untrained(AutoModelForCausalLM, config, record["seed"], **options)
        else:
            model = load_pretrained(AutoModelForCausalLM, folder, config, REMEDY, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return Backbone(model.requires_grad_(False).eval(), tokenizer)


def _attention_implementation(config: PretrainedConfig) -> str:
    """Return `sdpa` where the model has it, else `eager` (Gemma 2: its logits are capped before the softmax)."""
    model = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"


def _nf4_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loading options of 4-bit weights.

    Raises:
        InputError: there is no CUDA device or no bitsandbytes, or the weights are random.
    """
    if record.get("weights") == "random":
        raise InputError(
            "params.yaml:finetune.weights",
            expected="fp32 or bf16 with random weights",
            found="nf4",
            remedy="set finetune.weights to bf16, or backbone.weights to pretrained",
        )
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "params.yaml:finetune.weights",
            expected="nf4 where a CUDA device and bitsandbytes are",
            found="no CUDA device" if not torch.cuda.is_available() else "no bitsandbytes",
            remedy="set finetune.weights to bf16, or run where both are",
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "device_map": {"": torch.cuda.current_device()},
    }


def record_written_files(folder: Path) -> None:
    """Record every file in `folder` as written, and give it the permissions that a new file gets.

    Safetensors' own files are readable by their owner alone.
    """
    for path in sorted(folder.iterdir()):
        path.chmod(default_permissions())
        note_write(path)
